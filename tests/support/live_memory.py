"""How many bytes of tensors are alive at once, counted as torch makes them and lets them go, on any device.

Under torch's `FakeTensorMode` nothing is computed and nothing takes memory, so that large models are counted in
seconds; the living tensors are the same at every step.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of distinct storages that come to life inside the context; `peak` is the most at one time.

    Tensors that existed before, such as parameters, do not count.
    """

    def __init__(self, *known: nn.Module | Tensor) -> None:
        super().__init__()
        self.alive: dict[int, weakref.ref] = {}
        self.bytes = self.peak = 0
        self.known = {id(tensor.untyped_storage()) for tensor in tensors_of(*known)}
        self.kept = [tensor.untyped_storage() for tensor in tensors_of(*known)]  # so that no id is used again

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.see(tensor.untyped_storage())
        return out

    def see(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.alive or key in self.known:
            return

        def gone(_: weakref.ref) -> None:
            del self.alive[key]
            self.bytes -= size

        self.alive[key] = weakref.ref(storage, gone)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)


def tensors_of(*known: nn.Module | Tensor) -> list[Tensor]:
    """The parameters and buffers of modules, and tensors as they are."""
    found: list[Tensor] = []
    for item in known:
        found += [item] if isinstance(item, Tensor) else [*item.parameters(), *item.buffers()]
    return found


def size_of(*known: nn.Module | Tensor) -> int:
    """Bytes of the distinct storages of modules and tensors."""
    storages = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in tensors_of(*known))}
    return sum(storage.nbytes() for storage in storages.values())
