"""How a prompt enters a layer, and how one layer is run.

Shapes: b batch, l tokens, n prompts, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from einops import repeat
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vilt_prompt.towers.blocks import Block, WholeBlock
from vilt_prompt.towers.sharding import gathered

Prompts = Sequence[Tensor | None]  # the (n, d) prompt that enters each layer; None: carried on, or none at all


def prompt_of(
    i: int, prompts: Prompts, x: Tensor, enter: Callable[[Tensor], Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """The prompt (1, n, d) that enters layer i, from 0: as keys and values, or, if it is carried on, as tokens."""
    prompt = prompts[i]
    if prompt is None:
        return None, None
    prompt = repeat(prompt.to(x.dtype), "n d -> 1 n d")
    if i == 0:
        prompt = enter(prompt)
    fresh = sum(each is not None for each in prompts)
    return (None, prompt) if i + 1 == fresh < len(prompts) else (prompt, None)


def prompt_length(prompts: Prompts) -> int:
    """n, 0 where no layer has a prompt."""
    return max((len(prompt) for prompt in prompts if prompt is not None), default=0)


def run_layer(layer: Callable[..., Any], block: Block | WholeBlock, *tensors: Any, checkpointing: bool) -> Any:
    """Runs one layer, keeping only its inputs for the backward pass under the tower's checkpointing."""
    if checkpointing and torch.is_grad_enabled():
        layer = partial(checkpoint, layer, use_reentrant=False)
    # A block that runs whole is called, and gathers its weights itself.
    modules = [block.module] if isinstance(block, Block) else []
    return gathered(modules, layer, block, *tensors)
