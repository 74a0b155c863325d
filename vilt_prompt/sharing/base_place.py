"""The path of a base model that is a folder ("local-dir:") or a file of weights on this machine.

An absolute path can reveal a user name, means nothing on another machine, and breaks when folders move. So a saved
adapter records the path relative to its own folder, and a pushed adapter records the name of the folder or file only.
Paths that were given relative to the working directory stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePath

from vilt_prompt.config import JsonObject

LOCAL = "local-dir:"


def for_folder(config: JsonObject, folder: str | os.PathLike[str]) -> JsonObject:
    """Return the fields of a config with absolute paths of the base made relative to the folder that is saved to.

    A path stays absolute if it and the folder share no parent but the root.
    """

    def relative(path: str) -> str:
        start, target = os.path.realpath(folder), os.path.realpath(path)
        try:
            if os.path.commonpath([start, target]) == os.path.abspath(os.sep):
                return path
        except ValueError:  # on two drives
            return path
        return PurePath(os.path.relpath(target, start)).as_posix()

    return _with_paths(config, lambda path: relative(path) if os.path.isabs(path) else path)


def for_others(config: JsonObject) -> JsonObject:
    """Return the fields of a config with paths of the base that leave the working directory cut to their last part."""
    return _with_paths(
        config, lambda path: PurePath(path).name if os.path.isabs(path) or ".." in PurePath(path).parts else path
    )


def from_folder(config: JsonObject, folder: str | os.PathLike[str]) -> JsonObject:
    """Return the fields of a saved config with paths of the base that exist relative to its folder made absolute."""

    def found(path: str) -> str:
        there = Path(folder, path)
        return os.path.realpath(there) if not os.path.isabs(path) and there.exists() else path

    return _with_paths(config, found)


def is_elsewhere(base_model: str | None) -> bool:
    """Whether a name is that of a folder without a path, as `for_others` leaves it, so the user must pass the path."""
    return bool(base_model and base_model.startswith(LOCAL) and len(PurePath(base_model[len(LOCAL) :]).parts) == 1)


def _with_paths(config: JsonObject, change: Callable[[str], str]) -> JsonObject:
    name, weights = config.get("base_model"), config.get("base_pretrained")
    changed = dict(config)
    if isinstance(name, str) and name.startswith(LOCAL):
        changed["base_model"] = LOCAL + change(name[len(LOCAL) :])
    if isinstance(weights, str) and len(PurePath(weights).parts) > 1:  # tags have no folders
        changed["base_pretrained"] = change(weights)
    return changed
