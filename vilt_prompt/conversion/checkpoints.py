"""Reads the tensors of a training checkpoint (`.pth`, `.pth.tar`), and runs none of the code that it may name."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NESTED = ("state_dict", "model")  # where Dassl and ViFi-CLIP keep the model's tensors


class Inert:
    """Stands in for an object of a training run, such as a scheduler: takes anything, does nothing."""

    def __new__(cls, *_: Any) -> Inert:
        """An object without content."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# Training loops save objects beside the tensors, which weights_only=True refuses: those of these names are replaced.
STAND_INS: dict[str, Any] = {
    "builtins.dict": Inert,
    "collections.defaultdict": lambda *_: OrderedDict(),
    "yacs.config.CfgNode": OrderedDict,
}
INERT_MODULES = ("torch.optim.", "dassl.", "numpy.")


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, on the CPU, without the `module.` of `DataParallel`."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be that of a checkpoint, such as .../model.pth.tar-5, got {path!r}")
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}: give the checkpoint itself, such as .../model.pth.tar-5")
    try:
        objects = torch.serialization.get_unsafe_globals_in_checkpoint(os.fspath(path))
    except Exception:
        objects = []  # an older format; torch.load says below what it makes of it
    stand_ins = {name: STAND_INS.get(name, Inert) for name in objects}
    refused = [name for name in objects if name not in STAND_INS and not name.startswith(INERT_MODULES)]
    if refused:
        raise ValueError(
            f"{path} holds more than tensors: only running code could rebuild {', '.join(sorted(refused))}, and none "
            "was run. If you trust it, save its tensors alone: "
            'torch.save(torch.load(path, weights_only=False)["state_dict"], "tensors.pth")'
        )
    try:
        with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in stand_ins.items()]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged and hostile files raise whatever they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is no checkpoint that torch.load(..., weights_only=True) reads: {reason}") from error
    for name in NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"{path} holds no tensors by name: expected a state dict, alone or under {' or '.join(NESTED)}, got "
            f"{_described(content)}"
        )
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    unreadable = [name for name, value in tensors.items() if value.is_meta or value.layout != torch.strided]
    if unreadable:
        raise ValueError(f"{path} holds sparse tensors, or tensors without values: {unreadable[0]}. Save plain ones")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _described(content: Any) -> str:
    if isinstance(content, dict):
        return "a dict of " + (", ".join(str(key) for key in list(content)[:5]) or "nothing")
    return type(content).__name__
