"""Layers under a causal mask: open_clip's text towers, [SOS, P, name, EOS].

SOS and the prompts see nothing of the name. They are one prefix, computed once for all texts. All tokens lie along one
axis, so that each linear map runs once. A layout, `Padded` or `Packed`, says how attention finds the texts.

Shapes: c texts, l tokens of each after the first, t = c l or fewer if packed, n prompts, p tokens of the prefix (1, or
1 + n once prompts are carried), b prefixes (1 if all texts share it, else c), h heads, c channels of a head, d width.
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
    prefixes, prefix = first.shape[0], 1
    x = torch.cat([rearrange(first, "b 1 d -> 1 b d"), x], dim=1)  # [1 b+t d]
    for i, block in enumerate(blocks):
        prompt = entering_prompt(i, prompts, x, enter)
        if prompt is not None and is_carried(i, prompts):
            x = _carry(x, prompt, prefixes)  # [1 b*(1+n)+t d]
            prefix += prompt.shape[1]
            prompt = None
        layer = _pooled_layer if i == len(blocks) - 1 and layout.ends is not None else _layer
        x = run_layer(layer, block, x, prompt, layout, (prefixes, prefix), checkpointing=checkpointing)
    if layout.ends is not None:
        return rearrange(x, "1 c d -> c 1 d")
    starts, others = x.split([prefixes * prefix, x.shape[1] - prefixes * prefix], dim=1)
    names = rearrange(others, "1 (c l) d -> c l d", l=layout.length)
    starts = rearrange(starts, "1 (b p) d -> b p d", b=prefixes)[:, :1]  # without prompts, [b 1 d]
    return torch.cat([starts.expand(names.shape[0], -1, -1), names], dim=1)


def _layer(block: Block, x: Tensor, prompt: Tensor | None, layout: Layout, prefixes: tuple[int, int]) -> Tensor:
    """One layer of prefixes and texts: (1, b p + t, d) -> (1, b p + t, d)."""
    b, p = prefixes
    queries, keys_values, prompt_kv = block.qkv(x, prompt)
    (prefix_q, q), (prefix_kv, kv) = _apart(queries, b, p), _apart(keys_values, b, p)
    # With one token, the output of attention is that token's value. Only dropout can change it.
    if p == 1 and not block.dropout:
        attended = prefix_kv[1]  # [b h p c]
    else:
        attended = block.attend(prefix_q, prefix_kv, _causal_mask(p, x.device))
    others = layout.attend(block, q, join(prefix_kv, prompt_kv), kv)  # [1 h t c]
    prefix = rearrange(attended, "b h p c -> 1 (b p) h c")
    attended = torch.cat([prefix, others.transpose(1, 2)], dim=1).transpose(1, 2)  # [1 h b*p+t c], tokens outermost
    return block.update(x, attended)


def _pooled_layer(block: Block, x: Tensor, prompt: Tensor | None, layout: Layout, prefixes: tuple[int, int]) -> Tensor:
    """The last layer, for the pooled token of each text alone: (1, b p + t, d) -> (1, c, d)."""
    b, p = prefixes
    keys_values, prompt_kv = block.kv(x, prompt)
    prefix_kv, kv = _apart(keys_values, b, p)
    x = layout.at_ends(x[:, b * p :])  # [1 c d]
    return block.update(x, layout.attend_at_ends(block, block.q(x), join(prefix_kv, prompt_kv), kv))


def _apart(projected: Tensor, b: int, p: int) -> tuple[Tensor, Tensor]:
    """Prefixes and texts of (..., 1, h, b p + t, c): (..., b, h, p, c) and (..., 1, h, t, c)."""
    prefix, others = projected.split([b * p, projected.shape[-2] - b * p], dim=-2)
    return rearrange(prefix, "... 1 h (b p) c -> ... b h p c", b=b), others


def _carry(x: Tensor, prompt: Tensor, b: int) -> Tensor:
    """Put prompts (1, n, d) behind the first tokens: (1, b + t, d) -> (1, b (1 + n) + t, d)."""
    first = rearrange(x[:, :b], "1 b d -> b 1 d")
    prefix = torch.cat([first, prompt.expand(b, -1, -1)], dim=1)  # [b 1+n d]
    return torch.cat([rearrange(prefix, "b p d -> 1 (b p) d"), x[:, b:]], dim=1)


def _causal_mask(length: int, device: torch.device) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]
