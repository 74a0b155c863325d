"""Modules whose weights are sharded over several processes by `fully_shard` (FSDP2).

Such a module gathers its weights when it is called. The library calls parts of it instead, so it gathers them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

FSDPModule: Any = ()  # no object is an instance: some builds of PyTorch come without torch.distributed
if torch.distributed.is_available():
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

T = TypeVar("T")

_METHOD = "run_with_gathered_weights"


def gathered(modules: Sequence[nn.Module], function: Callable[..., T], *args: object) -> T:
    """Call a function that replaces the forward of some modules, while their weights are whole.

    The weights are gathered again in the backward pass.

    Args:
        modules: The modules, the outer one first.
        function: The function.
        args: Its arguments.

    Returns:
        The result of the function.
    """
    for module in reversed(modules):
        if isinstance(module, FSDPModule):
            args = (function, *args)
            function = _method(module)
    return function(*args)


def class_of(module: nn.Module) -> type:
    """The class that a module had before `fully_shard` gave it a subclass of its own."""
    return next(cls for cls in type(module).__mro__ if not issubclass(cls, FSDPModule))


def _method(module: nn.Module) -> Callable[..., Any]:
    """A method of the module that gathers its weights and calls a function."""
    if not hasattr(module, _METHOD):
        setattr(module, _METHOD, lambda function, *args: function(*args))
        register_fsdp_forward_method(module, _METHOD)
    method: Callable[..., Any] = getattr(module, _METHOD)
    return method
