"""The config of a saved adapter, read together with the files that it came from."""

from __future__ import annotations

import os
from typing import Any

from peft.utils import CONFIG_NAME

from vilt_prompt.config import PromptConfig
from vilt_prompt.sharing.files import AGAIN, read
from vilt_prompt.sharing.hub import HUB_ARGUMENTS, fetch


def read_config(
    path_or_repo: str | os.PathLike[str], *, subfolder: str | None, strict_base: bool, **kwargs: Any
) -> PromptConfig:
    """Reads and checks the files of an adapter; see `PromptConfig.from_pretrained`."""
    for_the_hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
    folder = fetch(path_or_repo, subfolder=subfolder, **for_the_hub)
    files = read(folder, os.fspath(path_or_repo))
    try:
        config = PromptConfig.from_peft_type(**files.config)
        if not isinstance(config.ctx_init, list | None):
            raise ValueError(f"ctx_init is {config.ctx_init!r}, a saved one is a list of token ids")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{files.folder / CONFIG_NAME} is not valid: {error}. {AGAIN[0].upper()}{AGAIN[1:]}"
        ) from error
    config.files, config.strict_base = files, strict_base
    return config
