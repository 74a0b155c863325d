"""Layers in which every token sees every other: image towers, and text towers without a causal mask.

The order of keys does not matter, so wherever a prompt stands, it is joined at the end.

Shapes: b batch, l tokens, n prompts, h heads, c channels of a head, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vilt_prompt.towers.blocks import Block, join
from vilt_prompt.towers.layers import Prompts, entering_prompt, is_carried, run_layer
from vilt_prompt.towers.whole import WholeBlocks

Pooled = Tensor | int | None  # the tokens that the tower pools: one index (b,) for each row, the first few, or all


def run_bidirectional(
    blocks: Sequence[Block] | WholeBlocks,
    x: Tensor,
    prompts: Prompts,
    *,
    enter: Callable[[Tensor], Tensor],
    seen: Tensor | None = None,
    pooled: Pooled = None,
    checkpointing: bool,
) -> Tensor:
    """Run tokens through all layers, [x, _] = V_i([x, P_i]) (Eq. 5 and 11).

    Args:
        blocks: The layers, all decomposed or all whole.
        x: (b, l, d) tokens, embedded.
        prompts: The prompt that enters each layer.
        enter: Embeds the prompt (1, n, d) of the first layer, as the tower embeds its tokens.
        seen: (b, 1, 1, l) bool, False for tokens that no token sees; None: all are seen. Prompts always are.
        pooled: Which tokens of the last layer the tower reads.
        checkpointing: Whether each layer is computed again in the backward pass.

    Returns:
        (b, l, d), or only the pooled tokens.
    """
    tokens = x.shape[1]
    if isinstance(blocks, WholeBlocks):
        x = blocks.run(x, prompts, before=tokens, enter=enter, seen=seen, checkpointing=checkpointing)
        return pick_pooled(x, pooled)
    for i, block in enumerate(blocks):
        prompt = entering_prompt(i, prompts, x, enter)
        if prompt is not None and is_carried(i, prompts):
            x = torch.cat([x, prompt.expand(x.shape[0], -1, -1)], dim=1)  # [b l+n d]
            prompt = None
        if i < len(blocks) - 1:
            x = run_layer(_layer, block, x, prompt, seen, checkpointing=checkpointing)
        else:
            x = run_layer(_last_layer, block, x, prompt, seen, tokens, pooled, checkpointing=checkpointing)
    return x


def _layer(block: Block, x: Tensor, prompt: Tensor | None, seen: Tensor | None) -> Tensor:
    """Tokens (b, l, d) -> (b, l, d). The prompt (1, n, d) is only keys and values, for its output is never read."""
    return block.add_mlp(block.add_attention(x, _attended(block, x, prompt, seen)))


def _attended(block: Block, x: Tensor, prompt: Tensor | None, seen: Tensor | None) -> Tensor:
    """The output of attention (b, h, l, c) for tokens (b, l, d)."""
    q, kv, prompt_kv = block.qkv(x, prompt)
    kv = join(kv, prompt_kv)  # [2 b h l+n c]
    return block.attend(q, kv, _mask(block, seen, x.shape[1], kv.shape[3]))


def _last_layer(
    block: Block, x: Tensor, prompt: Tensor | None, seen: Tensor | None, tokens: int, pooled: Pooled
) -> Tensor:
    """Tokens (b, l, d) -> the pooled ones. Only they are queries: no layer reads the others' outputs."""
    read = pick_pooled(x[:, :tokens], pooled)
    return block.add_mlp(block.add_attention(read, _attended_pooled(block, read, x, prompt, seen, tokens, pooled)))


def _attended_pooled(
    block: Block, read: Tensor, x: Tensor, prompt: Tensor | None, seen: Tensor | None, tokens: int, pooled: Pooled
) -> Tensor:
    """The output of attention for the pooled tokens, `read`, among tokens x (b, l, d)."""
    kv = join(*block.kv(x, prompt))  # [2 b h l+n c]
    mask = _mask(block, seen, x.shape[1], kv.shape[3])
    if mask is not None and mask.shape[2] > 1:  # a row for each query
        rows = mask[:, :, :tokens].expand(x.shape[0], -1, -1, -1)  # [b h l l+n]
        mask = pick_pooled(rows.transpose(1, 2), pooled).transpose(1, 2)
    return block.attend(block.q(read), kv, mask)


def pick_pooled(x: Tensor, pooled: Pooled) -> Tensor:
    """The pooled tokens of (b, l, ...): (b, 1, ...) if they are given by an index for each row."""
    if isinstance(pooled, Tensor):
        return x[torch.arange(x.shape[0], device=x.device), pooled].unsqueeze(1)  # [b 1 ...]
    return x[:, :pooled]


def _mask(block: Block, seen: Tensor | None, rows: int, keys: int) -> Tensor | None:
    """The mask of a layer's scores: bool, True where a key is seen, or the numbers that are added to the scores.

    Args:
        block: The layer, which may have a bias between its tokens.
        seen: (b, 1, 1, l) bool, or None.
        rows: The number of tokens, prompts that are carried on included.
        keys: The number of keys, the layer's own prompt included.

    Returns:
        (b or 1, h or 1, rows or 1, keys), or None.
    """
    if seen is not None:
        seen = F.pad(seen, (0, keys - seen.shape[-1]), value=True)  # prompts are seen
    bias = block.bias
    if bias is None:
        return seen
    tokens = bias.shape[-1]
    bias = F.pad(bias, (0, keys - tokens, 0, rows - tokens))  # 0 to and from prompts
    return bias if seen is None else bias.masked_fill(~seen, float("-inf"))
