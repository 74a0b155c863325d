"""Layers under a causal mask: open_clip's text towers, [SOS, P, name, EOS].

SOS and the prompts see nothing of the name, so they are computed once for all texts that start with the same token.
The prefix of the texts is SOS. A fresh prompt adds only keys and values to it, while prompts that are carried on become
tokens of it. All tokens lie along one axis, so that each linear map runs once. A layout, `Padded` or `Packed`, says how
attention finds the texts.

Shapes: c texts, l tokens of each after the first, t = c l or fewer if packed, n prompts, b prefixes (1 if all texts
share it, else c), p tokens of a prefix (1, or 1 + n once prompts are carried on), h heads, d width or channels of a
head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor

from vilt_prompt.towers.blocks import Block, join
from vilt_prompt.towers.layers import Prompts, entering_prompt, is_carried, run_layer
from vilt_prompt.towers.packing import Packed
from vilt_prompt.towers.padded import Padded

Layout = Padded | Packed


def run_causal(
    blocks: Sequence[Block],
    first: Tensor,
    x: Tensor,
    prompts: Prompts,
    layout: Layout,
    *,
    enter: Callable[[Tensor], Tensor],
    checkpointing: bool,
) -> Tensor:
    """Run texts through all layers, [W, _] = T_i([W, P_i]) (Eq. 7 and 10).

    Args:
        blocks: The layers.
        first: The first token, embedded: (1, 1, d) if all texts share it, or (c, 1, d).
        x: (1, t, d), the other tokens, embedded at their positions behind the prompts.
        prompts: The prompt that enters each layer.
        layout: Where the texts are in x, which tokens they see, and which tokens are pooled.
        enter: Embeds the prompt (1, n, d) of the first layer, as the tower embeds its tokens.
        checkpointing: Whether each layer is computed again in the backward pass.

    Returns:
        The pooled tokens, (c, 1, d), or all of them, (c, 1 + l, d), if none are pooled.
    """
    b, p = first.shape[0], 1
    x = torch.cat([rearrange(first, "b 1 d -> 1 b d"), x], dim=1)  # [1 b+t d]
    for i, block in enumerate(blocks):
        prompt = entering_prompt(i, prompts, x, enter)
        if prompt is not None and is_carried(i, prompts):
            x = _carry(x, prompt, b)  # [1 b*(1+n)+t d]
            p += prompt.shape[1]
            prompt = None
        layer = _pooled_layer if i == len(blocks) - 1 and layout.ends is not None else _layer
        x = run_layer(layer, block, x, prompt, layout, b, p, checkpointing=checkpointing)
    if layout.ends is not None:
        return rearrange(x, "1 c d -> c 1 d")
    starts, others = x.split([b * p, x.shape[1] - b * p], dim=1)
    names = rearrange(others, "1 (c l) d -> c l d", l=layout.length)
    starts = rearrange(starts, "1 (b p) d -> b p d", b=b)[:, :1]  # without prompts, [b 1 d]
    return torch.cat([starts.expand(names.shape[0], -1, -1), names], dim=1)


def _layer(block: Block, x: Tensor, prompt: Tensor | None, layout: Layout, b: int, p: int) -> Tensor:
    """One layer of prefixes and texts: (1, b p + t, d) -> (1, b p + t, d)."""
    return block.add_mlp(block.add_attention(x, _attended(block, x, prompt, layout, b, p)))


def _attended(block: Block, x: Tensor, prompt: Tensor | None, layout: Layout, b: int, p: int) -> Tensor:
    """The output of attention for prefixes and texts: (1, b p + t, d) -> (1, h, b p + t, d)."""
    queries, keys_values, prompt_kv = block.qkv(x, prompt)
    (prefix_q, q), (prefix_kv, kv) = _apart(queries, b, p), _apart(keys_values, b, p)
    # With one token, the output of attention is that token's value. Only dropout can change it.
    if p == 1 and not block.dropout:
        attended = prefix_kv[1]  # [b h p d]
    else:
        attended = block.attend(prefix_q, prefix_kv, _causal_mask(p, x.device))
    others = layout.attend(block, q, join(prefix_kv, prompt_kv), kv)  # [1 h t d]
    prefix = rearrange(attended, "b h p d -> 1 (b p) h d")
    return torch.cat([prefix, others.transpose(1, 2)], dim=1).transpose(1, 2)  # [1 h b*p+t d], tokens outermost


def _pooled_layer(block: Block, x: Tensor, prompt: Tensor | None, layout: Layout, b: int, p: int) -> Tensor:
    """The last layer, for the pooled token of each text alone: (1, b p + t, d) -> (1, c, d)."""
    keys_values, prompt_kv = block.kv(x, prompt)
    prefix_kv, kv = _apart(keys_values, b, p)
    x = layout.at_ends(x[:, b * p :])  # [1 c d]
    attended = layout.attend_at_ends(block, block.q(x), join(prefix_kv, prompt_kv), kv)  # [1 h c d]
    return block.add_mlp(block.add_attention(x, attended))


def _apart(projected: Tensor, b: int, p: int) -> tuple[Tensor, Tensor]:
    """Prefixes and texts of (..., 1, h, b p + t, d): (..., b, h, p, d) and (..., 1, h, t, d)."""
    prefix, others = projected.split([b * p, projected.shape[-2] - b * p], dim=-2)
    return rearrange(prefix, "... 1 h (b p) d -> ... b h p d", b=b), others


def _carry(x: Tensor, prompt: Tensor, b: int) -> Tensor:
    """Put prompts (1, n, d) behind the first tokens: (1, b + t, d) -> (1, b (1 + n) + t, d)."""
    first = rearrange(x[:, :b], "1 b d -> b 1 d")
    prefix = torch.cat([first, prompt.expand(b, -1, -1)], dim=1)  # [b 1+n d]
    return torch.cat([rearrange(prefix, "b p d -> 1 (b p) d"), x[:, b:]], dim=1)


def _causal_mask(length: int, device: torch.device) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]
