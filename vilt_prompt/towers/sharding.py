"""Modules and parameters whose values are sharded over several processes, as by `fully_shard` (FSDP2).

Such a module gathers its weights when it is called. The library calls parts of it instead, so it gathers them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

# No object is an instance of these: some builds of PyTorch come without torch.distributed.
FSDPModule: Any = ()
DTensor: Any = ()
if torch.distributed.is_available():
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
    from torch.distributed.tensor import DTensor

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


def check_whole(
    parameters: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], is_main_process: bool = True
) -> None:
    """Raise a ValueError if this process holds only a part of a parameter.

    The tensors are not gathered here, because a process that gathers them alone waits for the others forever.

    Args:
        parameters: The parameters of an adapter.
        shapes: The shapes of the whole tensors, under the same names.
        is_main_process: Whether this process saves. The other processes have no whole tensors to pass under DeepSpeed,
            so partitioned parameters are accepted there.
    """
    for name, parameter in parameters.items():
        is_part_of_flat = getattr(parameter, "_fsdp_flattened", False) and tuple(parameter.shape) != shapes[name]
        is_partitioned = is_main_process and hasattr(parameter, "ds_id")  # by DeepSpeed's ZeRO-3
        if isinstance(parameter, DTensor) or is_part_of_flat or is_partitioned:
            raise ValueError(
                f"{name} is in shards on several processes: gather the model's tensors in all processes, then pass "
                "state_dict= in the process that saves, as docs/several-gpus.md shows"
            )


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
