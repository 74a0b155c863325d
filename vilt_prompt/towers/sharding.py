"""Modules whose weights lie in shards on several processes, as `fully_shard` (FSDP2) leaves them.

Such a module gathers its weights when it is called, so the library says which ones its own computation stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

FSDPModule: Any = ()  # nothing is an instance: some builds of PyTorch come without torch.distributed
if torch.distributed.is_available():
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

_METHOD = "run_with_gathered_weights"


def gathered(modules: Sequence[nn.Module], function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` in place of the forward of these modules, the outer one first.

    Their weights are whole meanwhile, and again in the backward pass.
    """
    for module in reversed(modules):
        if isinstance(module, FSDPModule):
            args = (function, *args)
            function = _method(module)
    return function(*args)


def class_of(module: nn.Module) -> type:
    """The class that a module had before `fully_shard` gave it a subclass of its own."""
    return next(cls for cls in type(module).__mro__ if not issubclass(cls, FSDPModule))


def _method(module: Any) -> Callable[..., Any]:
    """Calls what it is given while the module is whole."""
    if not hasattr(module, _METHOD):
        setattr(module, _METHOD, lambda function, *args: function(*args))
        register_fsdp_forward_method(module, _METHOD)
    method: Callable[..., Any] = getattr(module, _METHOD)
    return method
