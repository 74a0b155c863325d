"""Names of adapters: they are names of folders and parts of parameter names, so not every string will do."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from vilt_prompt.adapter.layer import PREFIX, PromptLayer

LONGEST_NAME = 255  # bytes that file systems allow for the name of a folder


def check_adapter_name(adapter_name: Any) -> None:
    """Refuses what is no name of a folder, or would mislead PEFT, which finds tensors by the name in their keys."""
    if not isinstance(adapter_name, str):
        raise TypeError(f"an adapter name must be a string, got {adapter_name!r}")
    key_parts = {"base_model", "model", "prompts", "weight", "bias", *PromptLayer.adapter_layer_names}
    taken = hasattr(nn.ModuleDict(), adapter_name) or hasattr(nn.ParameterDict(), adapter_name)
    no_folder = set(adapter_name) & set("./\\:\0") or len(os.fsencode(adapter_name)) > LONGEST_NAME
    if adapter_name in key_parts or adapter_name in PREFIX or taken or no_folder:
        raise ValueError(
            f"the adapter name {adapter_name[:40]!r} is refused: it is empty, a part of the names of parameters, or no "
            f"name of a folder (no dot, slash, backslash, colon or null byte, at most {LONGEST_NAME} bytes); choose "
            'another one, such as "ucf101"'
        )
