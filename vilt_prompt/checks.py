"""Checks that several modules share, with errors that say what was given, what was expected, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn


def check_count(name: str, value: Any, advice: str, optional: bool = True) -> None:
    """Checks that a setting is an integer of at least 1, or None where it is optional.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is less than 1; `advice` names the range.
    """
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer{' or None' if optional else ''}, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}={value} is out of range: {advice}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Checks that a setting is one of some names.

    Raises:
        ValueError: If it is not; the message names the nearest one.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"unknown {name} {value!r}. {nearest(value, choices)}")


def check_placed(name: str, tensor: Tensor, weight: Tensor) -> None:
    """Checks that an input is on the device of the weight that it meets first and, if it is float, of its type.

    Weights that lie in shards, or on the meta device until their module is called, say nothing of this.

    Raises:
        ValueError: If it is on another device.
        TypeError: If it is of another float type, and autocast does not take care of it.
    """
    if torch.compiler.is_compiling() or type(weight) is not nn.Parameter or weight.is_meta:
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


def nearest(name: Any, known: Collection[str]) -> str:
    """The end of an error message about an unknown name: the nearest known one, and all of them."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known: {', '.join(known)}"


def is_readable(tensor: Tensor) -> bool:
    """Whether the values of a tensor may be looked at: not on the meta device, nor while compiling or exporting."""
    return not (tensor.is_meta or torch.compiler.is_compiling())


class AdapterIOError(OSError, ValueError):
    """The disk or the Hub failed or refused while an adapter was saved, fetched or pushed."""
