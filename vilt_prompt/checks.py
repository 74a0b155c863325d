"""Checks that several modules share."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from numbers import Integral
from typing import TypeGuard

import torch
from torch import Tensor, nn


def check_count(name: str, value: object, expected: str = "of at least 1", optional: bool = True) -> None:
    """Check that a setting is an integer of at least 1.

    Args:
        name: The name of the setting, for messages.
        value: The setting.
        expected: The range in words, for the message if it is too small, such as "in 1..depth".
        optional: Whether None is allowed.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is less than 1.
    """
    if value is None and optional:
        return
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer{' or None' if optional else ''}, got {value!r}")
    if value < 1:
        raise ValueError(f"expected {name} {expected}, got {value}")


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of Python or NumPy. A bool is not."""
    return isinstance(value, int | Integral) and not isinstance(value, bool)


def check_string(name: str, value: object) -> None:
    """Raise a TypeError if a setting is neither a string nor None."""
    if not isinstance(value, str | None):
        raise TypeError(f"{name} must be a string or None, got {value!r}")


def check_strings(name: str, value: object) -> None:
    """Raise a TypeError if a value is not a list of strings. A generator is refused: it can be read only once."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{name} must be a list of strings, got {value!r}")


def check_choice(name: str, value: object, choices: Collection[str], optional: bool = False) -> None:
    """Raise a ValueError if a setting is not one of the choices. None is allowed if the setting is optional."""
    if (value is not None or not optional) and (not isinstance(value, str) or value not in choices):
        raise ValueError(f"unknown {name} {value!r}. {nearest(value, choices)}")


def check_label_type(name: str, labels: object, rows: int) -> None:
    """Check the type and shape of labels, but not their values.

    Raises:
        TypeError: If they are not a tensor of integers.
        ValueError: If their shape is not (rows,).
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"{name} must be a tensor of integers, got {getattr(labels, 'dtype', labels)!r}")
    if labels.shape != (rows,):
        raise ValueError(f"{name} must be of shape ({rows},), got {tuple(labels.shape)}")


def check_floats(name: str, values: object, shape: str) -> None:
    """Check the type and rank of a tensor.

    Args:
        name: The name of the tensor, for messages.
        values: The tensor.
        shape: The expected shape in words, such as "(rows, D)". Only the number of dimensions is checked.

    Raises:
        TypeError: If it is not a float tensor.
        ValueError: If it has another number of dimensions, or no elements.
    """
    if not isinstance(values, Tensor) or not values.is_floating_point():
        raise TypeError(f"{name} must be a float tensor, got {getattr(values, 'dtype', type(values).__name__)}")
    if values.ndim != shape.count(",") + 1 or values.numel() == 0:
        raise ValueError(f"{name} must be of shape {shape} with at least one row, got {tuple(values.shape)}")


def check_placed(name: str, tensor: Tensor, weight: Tensor) -> None:
    """Check that an input is on the device, and of the float type, of the first weight that it meets.

    Nothing is checked while compiling, nor if the weight is sharded or on the meta device: then it does not show where
    the computation will run.

    Args:
        name: The name of the input, for messages.
        tensor: The input.
        weight: The weight.

    Raises:
        ValueError: If the devices differ.
        TypeError: If both are of float types, the types differ, and autocast is off.
    """
    if is_recording() or type(weight) is not nn.Parameter or weight.is_meta:
        return
    if tensor.device != weight.device:
        raise ValueError(
            f"{name} is on {tensor.device}, the model on {weight.device}: use {name}.to({str(weight.device)!r})"
        )
    autocast = torch.is_autocast_enabled(weight.device.type)
    if tensor.is_floating_point() and tensor.dtype != weight.dtype and not autocast:
        raise TypeError(
            f"{name} is {tensor.dtype}, the model {weight.dtype}: use {name}.to({weight.dtype}), or torch.autocast"
        )


def nearest(name: object, known: Collection[str]) -> str:
    """The end of a message about an unknown name: the known name that is nearest to it, and all known names."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known: {', '.join(known)}"


def is_readable(tensor: Tensor) -> bool:
    """Whether values may be looked at: not on the meta device, nor while a graph is recorded."""
    return not (tensor.is_meta or is_recording())


def is_recording() -> bool:
    """Whether a graph is recorded that other inputs run through: compiling, exporting or tracing."""
    return torch.compiler.is_compiling() or is_tracing()


def is_tracing() -> bool:
    """Whether `torch.jit.trace` records a graph, in which sizes are tensors. Exporters and counters are built on it."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]  # documented, but not in `__all__`
    return tracing
