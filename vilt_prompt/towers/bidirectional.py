"""Layers in which every token sees every other: image towers, and text towers without a causal mask.

The order of keys does not matter, so wherever a prompt stands, it is joined at the end.

Shapes: b batch, l tokens, n prompts, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vilt_prompt.towers.blocks import Block, WholeBlock, join
from vilt_prompt.towers.layers import Prompts, prompt_of, run_layer

Pooled = Tensor | int | None  # which tokens the tower pools: one index (b,) for each row, the first few, or all


def run_bidirectional(
    blocks: Sequence[Block | WholeBlock],
    x: Tensor,
    prompts: Prompts,
    *,
    enter: Callable[[Tensor], Tensor],
    seen: Tensor | None = None,
    pooled: Pooled = None,
    checkpointing: bool,
) -> Tensor:
    """Runs tokens through all layers, [x, _] = V_i([x, P_i]) (Eq. 7 and 11).

    Args:
        blocks: The layers.
        x: (b, l, d) tokens, embedded.
        prompts: The prompt that enters each layer.
        enter: What the embedding does to the prompt (1, n, d) of the first layer.
        seen: (b, 1, 1, l) bool, False for tokens that nobody sees; None: all are seen.
        pooled: Which tokens are wanted of the last layer.
        checkpointing: Whether the tower's is on.

    Returns:
        (b, l, d), or just the tokens that are pooled.
    """
    tokens = x.shape[1]
    for i, block in enumerate(blocks):
        prompt, carried = prompt_of(i, prompts, x, enter)
        if carried is not None:
            x = torch.cat([x, carried.expand(x.shape[0], -1, -1)], dim=1)
        if i < len(blocks) - 1:
            x = run_layer(_layer, block, x, prompt, seen, checkpointing=checkpointing)
        else:
            x = run_layer(_last_layer, block, x, prompt, seen, tokens, pooled, checkpointing=checkpointing)
    return x


def _layer(block: Block | WholeBlock, x: Tensor, prompt: Tensor | None, seen: Tensor | None) -> Tensor:
    """(b, l, d) -> (b, l, d). The prompt (1, n, d) is keys and values where the block can be taken apart."""
    if isinstance(block, WholeBlock):
        rows = x.shape[1]
        if prompt is not None:
            x = torch.cat([x, prompt.expand(x.shape[0], -1, -1)], dim=1)
        return block.run(x, None if seen is None else _see_prompts(seen, x.shape[1]))[:, :rows]
    q, kv, prompt_kv = block.qkv(x, prompt)
    kv = join(kv, prompt_kv)  # [2 b h l+n c]
    return block.update(x, block.attend(q, kv, _mask(block, seen, x.shape[1], kv.shape[3])))


def _last_layer(
    block: Block | WholeBlock, x: Tensor, prompt: Tensor | None, seen: Tensor | None, tokens: int, pooled: Pooled
) -> Tensor:
    """(b, l, d) -> the tokens that are pooled, which alone ask."""
    if isinstance(block, WholeBlock):
        return _pick(_layer(block, x, prompt, seen)[:, :tokens], pooled)
    kv = join(*block.kv(x, prompt))  # [2 b h l+n c]
    mask = _mask(block, seen, x.shape[1], kv.shape[3])
    if mask is not None and mask.shape[2] > 1:
        mask = _pick(mask[:, :, :tokens].expand(x.shape[0], -1, -1, -1).transpose(1, 2), pooled).transpose(1, 2)
    x = _pick(x[:, :tokens], pooled)
    return block.update(x, block.attend(block.q(x), kv, mask))


def _pick(x: Tensor, pooled: Pooled) -> Tensor:
    """(b, l, ...) -> the tokens that are pooled."""
    if isinstance(pooled, Tensor):
        return x[torch.arange(x.shape[0], device=x.device), pooled].unsqueeze(1)
    return x[:, :pooled]


def _mask(block: Block, seen: Tensor | None, rows: int, keys: int) -> Tensor | None:
    """What is added to the scores (b or 1, h or 1, rows or 1, keys), or which are seen. Prompts always are."""
    if seen is not None:
        seen = _see_prompts(seen, keys)
    if block.bias is None:
        return seen
    tokens = block.bias.shape[-1]
    bias = F.pad(block.bias, (0, keys - tokens, 0, rows - tokens))
    return bias if seen is None else bias.masked_fill(~seen, float("-inf"))


def _see_prompts(seen: Tensor, keys: int) -> Tensor:
    return F.pad(seen, (0, keys - seen.shape[-1]), value=True)
