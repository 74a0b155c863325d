"""How a prompt enters a layer, and how one decomposed layer runs.

Shapes: b batch, l tokens, n prompts, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from einops import repeat
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vilt_prompt.towers.blocks import Block
from vilt_prompt.towers.sharding import gathered

# For each layer, the (n, d) prompt that enters it. None: no fresh prompt, so a prompt that is there is carried on.
Prompts = Sequence[Tensor | None]


def prompt_length(prompts: Prompts) -> int:
    """n, or 0 if no layer has a prompt."""
    return max((len(prompt) for prompt in prompts if prompt is not None), default=0)


def entering_prompt(i: int, prompts: Prompts, x: Tensor, enter: Callable[[Tensor], Tensor]) -> Tensor | None:
    """The fresh prompt that enters a layer, in the type of the tokens.

    Args:
        i: The layer, from 0.
        prompts: The prompt of each layer.
        x: (b, l, d) tokens.
        enter: Embeds the prompt (1, n, d) of the first layer, as the tower embeds its tokens.

    Returns:
        (1, n, d), or None.
    """
    prompt = prompts[i]
    if prompt is None:
        return None
    # Prompts are float32, while tokens may be of lower precision. Batch 1: all rows share the prompt.
    prompt = repeat(prompt.to(x.dtype), "n d -> 1 n d")
    return enter(prompt) if i == 0 else prompt


def is_carried(i: int, prompts: Prompts) -> bool:
    """Whether later layers read the output of layer i, from 0, at the positions of its fresh prompt.

    Only the last fresh prompt is carried on. The outputs of the others are replaced by the next fresh prompt.
    """
    fresh = sum(prompt is not None for prompt in prompts)
    return prompts[i] is not None and i + 1 == fresh < len(prompts)


def run_layer(layer: Callable[..., Tensor], block: Block, *inputs: object, checkpointing: bool) -> Tensor:
    """Run one layer while the weights of its block are whole.

    Args:
        layer: The computation, called with the block and the inputs.
        block: The decomposed block.
        inputs: The other arguments of the computation.
        checkpointing: Whether the backward pass computes everything else again.
    """
    return gathered([block.module], checkpointed(layer, checkpointing), block, *inputs)


def checkpointed(function: Callable[..., Tensor], checkpointing: bool) -> Callable[..., Tensor]:
    """The function, keeping only its inputs for the backward pass if checkpointing is on."""
    if checkpointing and torch.is_grad_enabled():
        # The reentrant kind refuses `torch.autograd.grad`, and finds no gradient for tensors that are not arguments.
        return partial(checkpoint, function, use_reentrant=False)
    return function
