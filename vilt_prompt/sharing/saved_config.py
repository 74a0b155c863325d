"""The config of a saved adapter, with the files that it came from."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from peft.utils import CONFIG_NAME

from vilt_prompt.config import PromptConfig
from vilt_prompt.sharing.base_place import from_folder
from vilt_prompt.sharing.files import AdapterFiles, read
from vilt_prompt.sharing.hub import HUB_ARGUMENTS, fetch
from vilt_prompt.sharing.record import AGAIN

KNOWN_FIELDS = {each.name for each in dataclasses.fields(PromptConfig)}


class SavedConfig(PromptConfig):
    """A config with the files that it was read from. PEFT passes it to the tuner, which resolves it for the model.

    Attributes:
        files: The files, whose tensors the adapter has to fit. None in a copy that `dataclasses.replace` makes.
        strict_base: Whether other weights of the base model are an error. Otherwise they are a warning.
    """

    files: AdapterFiles | None = None
    strict_base: bool = True


def read_config(
    path_or_repo: str | os.PathLike[str], *, subfolder: str | None = None, strict_base: bool = True, **kwargs: Any
) -> SavedConfig:
    """Read and check the files of an adapter; see `PromptConfig.from_pretrained`."""
    for_the_hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
    folder = fetch(path_or_repo, subfolder=subfolder, **for_the_hub)
    files = read(folder, os.fspath(path_or_repo))
    # PEFT writes its own version since 0.18, which older releases would warn of as a field that they do not know.
    fields = {name: value for name, value in files.config.items() if name != "peft_version" or name in KNOWN_FIELDS}
    if os.path.isdir(path_or_repo):
        fields = from_folder(fields, files.folder)
    try:
        config: PromptConfig = PromptConfig.from_peft_type(**fields)
        if not isinstance(config.ctx_init, list | None):
            raise ValueError(f"ctx_init is {config.ctx_init!r}, expected a list of token ids")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{files.folder / CONFIG_NAME} is not valid: {error}. {AGAIN[0].upper()}{AGAIN[1:]}"
        ) from error
    saved = SavedConfig(**{each.name: getattr(config, each.name) for each in dataclasses.fields(config)})
    saved.files, saved.strict_base = files, strict_base
    return saved
