"""The state of torch's global generators, for dropout and the like; nothing in the data depends on it."""

import torch
from torch import Tensor


def random_state(device: torch.device) -> list[Tensor]:
    """Returns the state of the CPU's generator, and of that of a GPU."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_random_state(states: list[Tensor], device: torch.device) -> None:
    """Puts back what `random_state` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
