"""Read the tensors of a training checkpoint (`.pth`, `.pth.tar`) without running any code that the file refers to."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

NESTED = ("state_dict", "model")  # where Dassl and ViFi-CLIP keep the model's tensors


class Inert:
    """Placeholder for an object of a training run, such as a scheduler. It accepts any arguments and does nothing."""

    def __new__(cls, *_: object) -> Inert:
        """Make an empty object, whatever the arguments."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# Training loops save other objects next to the tensors. torch.load(weights_only=True) refuses such objects, so objects
# of these classes are replaced by a placeholder.
STAND_INS: dict[str, Callable[..., object]] = {
    "builtins.dict": Inert,
    "collections.defaultdict": lambda *_: OrderedDict(),
    "yacs.config.CfgNode": OrderedDict,
}
INERT_MODULES = ("torch.optim.", "dassl.", "numpy.")


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint to the CPU.

    Args:
        path: The checkpoint file.

    Returns:
        The tensors by name, without the prefix `module.` that `DataParallel` adds.

    Raises:
        TypeError: If `path` is not a path.
        ValueError: If there is no such file, torch cannot read it, it contains objects that only running code could
            rebuild, or it contains no named tensors.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be the path of a checkpoint, such as .../model.pth.tar-5, got {path!r}")
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}: give the checkpoint itself, such as .../model.pth.tar-5")
    try:
        objects = torch.serialization.get_unsafe_globals_in_checkpoint(os.fspath(path))
    except Exception:
        objects = []  # an older format: torch.load below reads it or raises
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
    except Exception as error:  # damaged and malicious files can raise any exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is not a checkpoint that torch.load(..., weights_only=True) can read: {reason}"
        ) from error
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


def _described(content: object) -> str:
    if isinstance(content, dict):
        return "a dict of " + (", ".join(str(key) for key in list(content)[:5]) or "nothing")
    return type(content).__name__
