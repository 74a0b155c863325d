"""Tensors that say they are on a GPU, where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor


class OnGpu(Tensor):
    """A tensor on the CPU whose `is_cuda` is true, as is that of whatever is computed from it."""

    is_cuda = True


class StandInGpu:
    """The parts of CUDA that the library calls: events that count how often they are waited for, and capture.

    Attributes:
        waits: How often an event was waited for.
        capturing: Whether a CUDA graph is being captured.
    """

    def __init__(self) -> None:
        self.waits = 0
        self.capturing = False

    def tensor(self, values: Any) -> Tensor:
        """A tensor "on the GPU"."""
        return torch.as_tensor(values).as_subclass(OnGpu)

    @contextmanager
    def no_reads(self) -> Iterator[None]:
        """Inside, to read a value of a tensor is an error."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("tolist", "item", "__bool__", "__int__", "__float__", "nonzero"):
                patch.setattr(OnGpu, name, _refuse, raising=False)
            yield

    def event(self) -> _Event:
        """In place of `torch.cuda.Event()`."""
        return _Event(self)


def _refuse(*arguments: Any) -> None:
    raise AssertionError("a value was read")


class _Event:
    def __init__(self, gpu: StandInGpu) -> None:
        self.gpu, self.recorded = gpu, False

    def record(self) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded
        self.gpu.waits += 1
