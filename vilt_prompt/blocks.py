"""One open_clip transformer block taken apart, so that only the work that counts is done.

A prompt whose output is thrown away is no token: it is keys and values, `attn(q=x, kv=[x, P])`. And in the last block
only the pooled token asks. Both need a block in pieces: the projections to queries, keys and values, and the rest.

Shapes: b batch, l tokens, h heads, c channels of a head, d = h * c width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from einops import rearrange
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vilt_prompt.foreign import check_attention


def block_refusal(blocks: Iterable[nn.Module]) -> str | None:
    """Why the blocks of a tower cannot be taken apart, or None."""
    for block in blocks:
        if type(block) is not ResidualAttentionBlock:
            return f"its blocks are {type(block).__name__}, known is {ResidualAttentionBlock.__name__}"
    return None


class Block:
    """The pieces of a `ResidualAttentionBlock`: pre-norm, `nn.MultiheadAttention`, optional layer scale."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        self.block = block
        self.attn: nn.MultiheadAttention = block.attn
        check_attention(self.attn)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, l, d) -> queries, keys and values, each (b, h, l, c)."""
        q, k, v = self._project(x, 0, 3)
        return q, k, v

    def q(self, x: Tensor) -> Tensor:
        """(b, l, d) -> queries (b, h, l, c)."""
        return self._project(x, 0, 1)[0]

    def kv(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(b, l, d) -> keys and values, each (b, h, l, c)."""
        k, v = self._project(x, 1, 3)
        return k, v

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block: tokens x (b, l, d) and what their queries brought (b, h, l, c) -> (b, l, d)."""
        x = x + self.block.ls_1(self.attn.out_proj(rearrange(attended, "b h l c -> b l (h c)")))
        return x + self.block.ls_2(self.block.mlp(self.block.ln_2(x)))

    def _project(self, x: Tensor, first: int, last: int) -> list[Tensor]:
        # nn.MultiheadAttention keeps the three projections in one matrix, queries first; slices of it are views.
        d = self.attn.embed_dim
        weight, bias = self.attn.in_proj_weight, self.attn.in_proj_bias
        rows = slice(first * d, last * d)
        out = F.linear(self.block.ln_1(x), weight[rows], None if bias is None else bias[rows])
        return list(rearrange(out, "b l (s h c) -> s b h l c", s=last - first, h=self.attn.num_heads).unbind())


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention: queries (b, h, l, c) over keys and values (b, h, m, c); `mask` (l, m): True may be seen."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def join(*parts: Tensor) -> Tensor:
    """Joins keys (or values) of the same rows along the tokens; a part of batch 1 is shared by all rows."""
    batch = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(batch, -1, -1, -1) for part in parts], dim=2)


def run_layer(layer: Callable[..., Any], *tensors: Any, checkpointing: bool) -> Any:
    """Runs one layer, keeping only its inputs for the backward pass where open_clip's checkpointing is on."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(layer, *tensors, use_reentrant=False)
    return layer(*tensors)
