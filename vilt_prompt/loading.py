"""`from_pretrained`: a saved adapter onto an open_clip model, checked before the model is touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

from peft import PeftModel
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import nn

from vilt_prompt.config import PEFT_TYPE
from vilt_prompt.prompts import refuse_adapter_name
from vilt_prompt.tuner import check_unwrapped


def from_pretrained(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    adapter_name: str = "default",
    is_trainable: bool = False,
    subfolder: str | None = None,
) -> PeftModel:
    """Puts a saved adapter into an open_clip model.

    Args:
        model: The open_clip model that the adapter was trained on; patched in place.
        path: The folder that `save_pretrained` wrote.
        adapter_name: The name that the adapter gets in this model.
        is_trainable: Whether training goes on; otherwise the adapter is frozen too, and the model in eval mode.
        subfolder: Folder inside `path`; adapters that are not called "default" are saved to one of their name.

    Returns:
        The PEFT model, as `wrap` returns it.

    Raises:
        TypeError: If `model` is no open_clip model.
        ValueError: If the folder or one of its files is missing or damaged, or the adapter does not fit the model.
            The model is unchanged then.
    """
    check_unwrapped(model)
    folder = Path(path, subfolder or "")
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give the folder that save_pretrained(...) wrote")
    for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
        if not (folder / name).is_file():
            others = sorted(config.parent.name for config in folder.glob(f"*/{CONFIG_NAME}"))
            hint = f"; its subfolders with an adapter are: {', '.join(others)} (pass subfolder=)" if others else ""
            raise ValueError(f"{folder} holds no {name}{hint}")
    try:
        peft_type = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))["peft_type"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / CONFIG_NAME} is damaged ({error!r}): copy it again") from error
    if peft_type != PEFT_TYPE:
        raise ValueError(f"{folder} holds a PEFT adapter of type {peft_type}, not {PEFT_TYPE}, the one of this library")
    refuse_adapter_name(adapter_name)
    return PeftModel.from_pretrained(model, str(folder), adapter_name=adapter_name, is_trainable=is_trainable)
