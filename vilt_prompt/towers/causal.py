"""Layers under a causal mask: open_clip's text towers, [SOS, P, name, EOS].

SOS and the prompts see nothing of the name: they are one prefix, computed once for all texts. All tokens lie along one
axis, so that each linear map runs once; a layout, `Padded` or `Packing`, says how attention finds the texts.

Shapes: c texts, l tokens of each after the first, t = c l or fewer if packed, n prompts, p tokens of the prefix (1, or
1 + n once prompts are carried), b prefixes (1 where all texts share it, else c), h heads, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vilt_prompt.towers.blocks import Block, WholeBlock, join
from vilt_prompt.towers.layers import Prompts, prompt_of, run_layer
from vilt_prompt.towers.packing import Packing
from vilt_prompt.towers.padded import Padded

Layout = Padded | Packing


def run_causal(
    blocks: Sequence[Block | WholeBlock],
    first: Tensor,
    x: Tensor,
    prompts: Prompts,
    layout: Layout,
    *,
    enter: Callable[[Tensor], Tensor],
    checkpointing: bool,
) -> Tensor:
    """Runs texts through all layers, [W, _] = T_i([W, P_i]) (Eq. 5 and 10).

    Args:
        blocks: The layers; all in pieces if the texts are packed.
        first: (1, 1, d), the first token where all texts share it, or (c, 1, d), embedded.
        x: (1, t, d), the other tokens, embedded where they stand once the prompts are in.
        prompts: The prompt that enters each layer.
        layout: Where the texts are in x, what is seen of them, and which tokens are pooled.
        enter: What the embedding does to the prompt (1, n, d) of the first layer.
        checkpointing: Whether the tower's is on.

    Returns:
        The pooled tokens, (c, 1, d), or all of them, (c, 1 + l, d).
    """
    prefixes, prefix = first.shape[0], 1
    x = torch.cat([rearrange(first, "b 1 d -> 1 b d"), x], dim=1)
    for i, block in enumerate(blocks):
        prompt, carried = prompt_of(i, prompts, x, enter)
        if carried is not None:
            x = _carry(x, carried, prefixes)
            prefix += carried.shape[1]
        layer = _pooled_layer if i == len(blocks) - 1 and layout.ends is not None else _layer
        x = run_layer(layer, block, x, prompt, layout, (prefixes, prefix), checkpointing=checkpointing)
    if layout.ends is not None:
        return layout.in_order(x)
    assert isinstance(layout, Padded)
    texts = _texts(x, layout, prefixes, prefix)
    return torch.cat([texts[:, :1], texts[:, prefix:]], dim=1)


def _layer(
    block: Block | WholeBlock, x: Tensor, prompt: Tensor | None, layout: Layout, prefixes: tuple[int, int]
) -> Tensor:
    """(1, b p + t, d) -> (1, b p + t, d)."""
    b, p = prefixes
    if isinstance(block, WholeBlock):
        assert isinstance(layout, Padded)
        return _whole_layer(block, x, prompt, layout, b, p)
    queries, keys_values, prompt_kv = block.qkv(x, prompt)
    (prefix_q, q), (prefix_kv, kv) = _apart(queries, b, p), _apart(keys_values, b, p)
    # A first token sees itself alone, or nothing where dropout takes that.
    attended = prefix_kv[1] if p == 1 and not block.dropout else block.attend(prefix_q, prefix_kv, _causal(p, x.device))
    others = layout.attend(block, q, join(prefix_kv, prompt_kv), kv)  # [1 h t c]
    prefix = rearrange(attended, "b h p c -> 1 (b p) h c")
    attended = torch.cat([prefix, others.transpose(1, 2)], dim=1).transpose(1, 2)  # [1 h b*p+t c], tokens outermost
    return block.update(x, attended)


def _pooled_layer(
    block: Block | WholeBlock, x: Tensor, prompt: Tensor | None, layout: Layout, prefixes: tuple[int, int]
) -> Tensor:
    """(1, b p + t, d) -> (1, c, d), the pooled token of each text alone."""
    b, p = prefixes
    if isinstance(block, WholeBlock):
        return layout.at_ends(_layer(block, x, prompt, layout, prefixes)[:, b * p :])
    keys_values, prompt_kv = block.kv(x, prompt)
    prefix_kv, kv = _apart(keys_values, b, p)
    x = layout.at_ends(x[:, b * p :])
    return block.update(x, layout.attend_at_ends(block, block.q(x), join(prefix_kv, prompt_kv), kv))


def _apart(projected: Tensor, b: int, p: int) -> tuple[Tensor, Tensor]:
    """(..., 1, h, b p + t, c) -> the prefixes' (..., b, h, p, c), and (..., 1, h, t, c)."""
    prefix, others = projected.split([b * p, projected.shape[-2] - b * p], dim=-2)
    return rearrange(prefix, "... 1 h (b p) c -> ... b h p c", b=b), others


def _whole_layer(block: WholeBlock, x: Tensor, prompt: Tensor | None, layout: Padded, b: int, p: int) -> Tensor:
    """Every text has the prefix and the prompt as tokens of its own."""
    texts = _texts(x, layout, b, p)
    n = 0
    if prompt is not None:
        n = prompt.shape[1]
        texts = torch.cat([texts[:, :p], prompt.expand(texts.shape[0], -1, -1), texts[:, p:]], dim=1)
    causal = F.pad(_causal(p + n, x.device), (0, layout.length), value=False)
    seen = torch.cat([causal.expand(layout.mask.shape[0], -1, -1, -1), layout.mask], dim=2)
    texts = block.run(texts, seen)
    prefix = rearrange(texts[:b, :p], "b p d -> 1 (b p) d")
    return torch.cat([prefix, rearrange(texts[:, p + n :], "c l d -> 1 (c l) d")], dim=1)


def _texts(x: Tensor, layout: Padded, b: int, p: int) -> Tensor:
    """All tokens (1, b p + t, d) -> each text with its prefix, (c, p + l, d)."""
    prefix = rearrange(x[:, : b * p], "1 (b p) d -> b p d", b=b).expand(layout.texts, -1, -1)
    return torch.cat([prefix, rearrange(x[:, b * p :], "1 (c l) d -> c l d", c=layout.texts)], dim=1)


def _carry(x: Tensor, prompt: Tensor, b: int) -> Tensor:
    """Puts prompts (1, n, d) behind the first tokens: (1, b + t, d) -> (1, b (1 + n) + t, d)."""
    first = rearrange(x[:, :b], "1 b d -> b 1 d")
    prefix = torch.cat([first, prompt.expand(b, -1, -1)], dim=1)
    return torch.cat([rearrange(prefix, "b p d -> 1 (b p) d"), x[:, b:]], dim=1)


def _causal(length: int, device: torch.device) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]
