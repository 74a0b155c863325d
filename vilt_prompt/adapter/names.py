"""Checks of adapter names, which become names of folders and parts of parameter names."""

from __future__ import annotations

import os

from torch import nn

from vilt_prompt.adapter.layer import PREFIX, PromptLayer

LONGEST_NAME = 255  # bytes that file systems allow for the name of a folder


def check_adapter_name(adapter_name: object) -> None:
    """Check that a name can be the name of a folder, and does not confuse PEFT.

    PEFT finds an adapter's tensors by its name in their keys. A name that occurs in other keys would match wrong ones.

    Raises:
        TypeError: If the name is not a string.
        ValueError: If it cannot be used.
    """
    if not isinstance(adapter_name, str):
        raise TypeError(f"an adapter name must be a string, got {adapter_name!r}")
    key_parts = {"base_model", "model", "prompts", "weight", "bias", *PromptLayer.adapter_layer_names}
    taken = hasattr(nn.ModuleDict(), adapter_name) or hasattr(nn.ParameterDict(), adapter_name)
    no_folder = set(adapter_name) & set("./\\:\0") or len(os.fsencode(adapter_name)) > LONGEST_NAME
    if adapter_name in key_parts or adapter_name in PREFIX or taken or no_folder:
        raise ValueError(
            f"the adapter name {adapter_name[:40]!r} is refused: it is empty, a part of the names of parameters, or "
            f"not the name of a folder (no dot, slash, backslash, colon or null byte, at most {LONGEST_NAME} bytes); "
            'choose another one, such as "ucf101"'
        )
