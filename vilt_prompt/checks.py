"""Checks that several modules share."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn


def check_count(name: str, value: Any, advice: str = "it must be at least 1", optional: bool = True) -> None:
    """Refuses a setting that is not an integer (TypeError; None passes if `optional`) or less than 1 (ValueError)."""
    if value is None and optional:
        return
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer{' or None' if optional else ''}, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}={value} is out of range: {advice}")


def is_integer(value: Any) -> bool:
    """Whether a value is an integer: Python's or NumPy's, but not a bool."""
    return isinstance(value, int | Integral) and not isinstance(value, bool)


def check_string(name: str, value: Any) -> None:
    """Refuses what is neither a string nor None (TypeError)."""
    if not isinstance(value, str | None):
        raise TypeError(f"{name} must be a string or None, got {value!r}")


def check_strings(name: str, value: Any) -> None:
    """Refuses what is no list of strings (TypeError); a generator could be read but once."""
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    if not listed or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{name} must be a list of strings, got {value!r}")


def check_choice(name: str, value: Any, choices: Collection[str], optional: bool = False) -> None:
    """Refuses a setting that is none of the choices (ValueError; None passes if it is optional)."""
    if (value is not None or not optional) and (not isinstance(value, str) or value not in choices):
        raise ValueError(f"unknown {name} {value!r}. {nearest(value, choices)}")


def check_label_type(name: str, labels: Any, rows: int) -> None:
    """Refuses what is not a tensor of integers (TypeError) of shape (rows,) (ValueError)."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"{name} must be a tensor of integers, got {getattr(labels, 'dtype', labels)!r}")
    if labels.shape != (rows,):
        raise ValueError(f"{name} must be of shape ({rows},), got {tuple(labels.shape)}")


def check_floats(name: str, values: Any, shape: str) -> None:
    """Refuses what is no float tensor (TypeError), and other ranks than that of `shape` (ValueError)."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        raise TypeError(f"{name} must be a float tensor, got {getattr(values, 'dtype', type(values).__name__)}")
    if values.ndim != shape.count(",") + 1 or values.numel() == 0:
        raise ValueError(f"{name} must be of shape {shape} with at least one row, got {tuple(values.shape)}")


def check_placed(name: str, tensor: Tensor, weight: Tensor) -> None:
    """Refuses an input on another device (ValueError), or of another float type (TypeError), than its first weight.

    Weights in shards, or on the meta device until their module is called, say nothing of this.
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
    """The nearest known name, and all of them."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known: {', '.join(known)}"


def is_readable(tensor: Tensor) -> bool:
    """Whether values may be looked at: not on the meta device, nor while compiling or exporting."""
    return not (tensor.is_meta or torch.compiler.is_compiling())


class LateNumbers:
    """Reads numbers without waiting for a GPU: those of one call are read at the next.

    To read a value from a GPU is to wait until all work queued there is done. Here a copy is queued behind that work;
    one training step later it has arrived. Numbers on the CPU are read at once.
    """

    def __init__(self) -> None:
        self._queued: tuple[Tensor, torch.cuda.Event, int] | None = None

    def exchange(self, numbers: Tensor, classes: int) -> list[tuple[list[int], int]]:
        """Takes the numbers of this call, and returns those that have arrived, each with the classes of its call.

        Args:
            numbers: (n,) integers.
            classes: A number that Python knows already, returned beside them.
        """
        if numbers.is_cuda and torch.cuda.is_current_stream_capturing():
            return []  # a CUDA graph cannot be interrupted
        arrived = []
        if self._queued is not None:
            copied, event, before = self._queued
            event.synchronize()
            arrived.append((copied.tolist(), before))
            self._queued = None
        if numbers.is_cuda:
            copied = numbers.to("cpu", non_blocking=True)  # into pinned memory
            event = torch.cuda.Event()
            event.record()
            self._queued = copied, event, classes
        else:
            arrived.append((numbers.tolist(), classes))
        return arrived

    def __getstate__(self) -> dict[str, Any]:
        return {"_queued": None}  # an event can be neither pickled nor copied


class AdapterIOError(OSError, ValueError):
    """The disk or the Hub failed while an adapter was saved, fetched or pushed."""
