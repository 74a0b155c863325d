"""Adapters that training left: where they are in the folder of a run, how they were trained, where their base is."""

import json
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from vilt_prompt import PromptConfig

CONFIG = "adapter_config.json"
SETTINGS = "training.json"  # beside it: the options of the training
LOCAL = "local-dir:"


def find_adapter(adapter: str) -> str:
    """Returns the folder of a run's adapter, the best or else the last one, and says which; other names as they are.

    Raises:
        ValueError: If the folder holds no adapter.
    """
    folder = Path(adapter)
    if not folder.is_dir() or (folder / CONFIG).is_file():
        return adapter
    for name in ("best", "last"):
        if (folder / name / CONFIG).is_file():
            print(f"the adapter is {folder / name}", file=sys.stderr)
            return str(folder / name)
    raise ValueError(f"{folder} holds no adapter: neither it nor best/ or last/ in it has an {CONFIG}")


def training_settings(adapter: str) -> dict[str, Any]:
    """Returns the options of an adapter's training; empty if its folder or repository does not have them."""
    file = Path(adapter) / SETTINGS
    if not Path(adapter).is_dir():
        try:
            file = Path(hf_hub_download(adapter, SETTINGS))
        except (EntryNotFoundError, HfHubHTTPError):  # It is not there or not in the cache, or the Hub refuses.
            return {}
    if not file.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is damaged: expected an object of JSON, got {found!r}")
    return found


def save_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Writes the options of the training beside an adapter."""
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def base_of(adapter: str, config: PromptConfig, model: str | None, pretrained: str | None) -> tuple[str, str | None]:
    """Returns the open_clip name and weights of an adapter's base; given ones take precedence over the adapter's.

    Args:
        adapter: The folder or repository, for messages.
        config: Its config.
        model: The open_clip name that was given, or None.
        pretrained: The weights that were given, or None.

    Raises:
        ValueError: If neither names the base, or it is a folder that is not on this machine.
    """
    name = model or config.base_model
    if name is None:
        raise ValueError(f"the adapter {adapter} does not name its open_clip model: add --model, and --pretrained")
    folder = Path(name.removeprefix(LOCAL))
    if model is None and name.startswith(LOCAL) and not folder.is_dir():
        is_name = folder.is_absolute() or len(folder.parts) == 1  # a pushed adapter records only the folder's name
        relative = "" if is_name else ", relative to the adapter or to the folder in which the training was started"
        raise ValueError(
            f"the base model of {adapter} is the folder {folder}{relative}, which is not here: say where it is with "
            f"--model {LOCAL}FOLDER"
        )
    return name, pretrained or (None if model else config.base_pretrained)
