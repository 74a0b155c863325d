"""Numbers on a GPU, read without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


class LateNumbers:
    """Read numbers from a GPU one call late, so that no call waits for it.

    Reading a value from a GPU waits until all work queued there is done. Instead, a copy to the CPU is queued behind
    that work, and read in the next call, one training step later, when it has arrived. Numbers on the CPU are read at
    once.
    """

    def __init__(self) -> None:
        self._queued: tuple[Tensor, torch.cuda.Event, int] | None = None

    def exchange(self, numbers: Tensor, classes: int) -> list[tuple[list[int], int]]:
        """Queue the numbers of this call, and return the numbers that have arrived.

        Args:
            numbers: (n,) integers.
            classes: The number of classes in this call. It is returned together with the numbers.

        Returns:
            The numbers and the classes of the previous call, of this call, of both, or none.
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

    def __getstate__(self) -> dict[str, None]:
        return {"_queued": None}  # an event can be neither pickled nor copied
