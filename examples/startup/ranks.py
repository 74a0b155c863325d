"""One process or several under torchrun: which rank am I, and what did the others find."""

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def start(device: str | None) -> torch.device:
    """Joins the processes that torchrun started, if it did, and returns the device of this one.

    Args:
        device: Such as "cpu" or "cuda"; None: a GPU where there is one.

    Raises:
        ValueError: There is no such device.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
    if kind == "cuda" and "LOCAL_RANK" in os.environ:
        kind = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        if kind.startswith("cuda:"):
            torch.cuda.set_device(kind)
        torch.empty(0, device=kind)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {kind} cannot be used: {error}; choose cpu, or cuda where there is a GPU"
        ) from error
    return torch.device(kind)


def stop() -> None:
    """Leaves the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process; 0 writes files and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(mine: Any) -> list[Any]:
    """What each process brought, in the order of their numbers."""
    if world_size() == 1:
        return [mine]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


def mean(value: Tensor) -> float:
    """The mean of one number over the processes."""
    total = value.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(total)
    return total.item() / world_size()


def barrier() -> None:
    """Waits for the others."""
    if dist.is_initialized():
        dist.barrier()
