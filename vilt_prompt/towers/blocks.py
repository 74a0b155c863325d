"""A transformer block taken apart, so that only the work that counts is done.

A prompt whose output is thrown away is no token: it is keys and values, `attn(q=x, kv=[x, P])`. And in the last block
only the tokens that are pooled ask.

Shapes: b batch, l tokens, m keys, n prompts, h heads, c channels of a head, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F

try:
    from peft.utils import AuxiliaryTrainingWrapper
except ImportError:  # PEFT before 0.16 has one wrapper of the kind
    from peft.utils import ModulesToSaveWrapper as AuxiliaryTrainingWrapper  # type: ignore[assignment]

# A prompt is projected together with its tokens where they are this many times as many. Its queries are computed then
# and dropped, at most a hundredth of the layer's work, and a norm and a map are launched once instead of twice.
FEW_PROMPTS = 8


class Block:
    """One block in pieces. Each library's say what fits them, and how they project and update."""

    scale: float | None = None  # of the scores; None: one over the root of c
    bias: Tensor | None = None  # (1, h, l, l), added to the scores between tokens; to and from prompts it is zero

    def __init__(self, module: Any, attn: Any, dropout: float) -> None:
        """Args: the block, its attention, and the dropout of its weights while training."""
        self.module, self.attn = module, attn
        self.dropout = dropout if module.training else 0.0

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """(b, l, d) -> those of queries (0), keys (1) and values (2) in [first, last): (last - first, b, h, l, c)."""
        raise NotImplementedError

    def rotate(self, projected: Tensor) -> Tensor:
        """Queries or keys (b, h, l, c) of tokens with their rotary embedding, which prompts never take."""
        return projected

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest: tokens x (b, l, d) and what their queries brought (b, h, l, c) -> (b, l, d)."""
        raise NotImplementedError

    def qkv(self, x: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Projects tokens, and their prompt to keys and values.

        Args:
            x: (b, l, d) tokens.
            prompt: (1, n, d), or None.

        Returns:
            The tokens' queries (b, h, l, c), their keys and values (2, b, h, l, c), and those of the prompt
            (2, 1, h, n, c), or None.
        """
        tokens, prompt_kv = self._project_with_prompt(x, prompt, 0)
        q, kv = tokens.split((1, 2))  # [1 b h l c], [2 b h l c]
        return self.rotate(q.squeeze(0)), self._rotate_keys(kv), prompt_kv

    def q(self, x: Tensor) -> Tensor:
        """Tokens (b, l, d) -> queries (b, h, l, c)."""
        return self.rotate(self.project(x, 0, 1).squeeze(0))

    def kv(self, x: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens (b, l, d) and their prompt (1, n, d) -> keys and values (2, b, h, l, c), and (2, 1, h, n, c)."""
        tokens, prompt_kv = self._project_with_prompt(x, prompt, 1)
        return self._rotate_keys(tokens), prompt_kv

    def attend(self, q: Tensor, kv: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries (b, h, l, c) over keys and values (2, b, h, m, c); the mask: True is seen, or added to the scores."""
        k, v = kv.unbind()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout, scale=self.scale)

    def _project_with_prompt(self, x: Tensor, prompt: Tensor | None, first: int) -> tuple[Tensor, Tensor | None]:
        """Tokens (b, l, d) -> their parts from `first` on, (s, b, h, l, c); prompt (1, n, d) -> (2, 1, h, n, c)."""
        batch, length, _ = x.shape
        # A compiled or exported graph serves any batch: it must not depend on how large this one is.
        if prompt is None or torch.compiler.is_compiling() or batch * length < FEW_PROMPTS * prompt.shape[1]:
            return self.project(x, first, 3), None if prompt is None else self.project(prompt, 1, 3)
        rows = torch.cat([rearrange(x, "b l d -> 1 (b l) d"), prompt], dim=1)  # [1, b l + n, d]
        tokens, prompt_parts = self.project(rows, first, 3).split((batch * length, prompt.shape[1]), dim=3)
        return rearrange(tokens, "s 1 h (b l) c -> s b h l c", b=batch), prompt_parts[-2:]

    def _rotate_keys(self, kv: Tensor) -> Tensor:
        """Keys and values (2, b, h, l, c) of tokens, the keys with their rotary embedding."""
        k, v = kv.unbind()
        rotated = self.rotate(k)
        return kv if rotated is k else torch.stack([rotated, v])


class WholeBlock:
    """A block that cannot be taken apart: prompts are tokens in it."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def run(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """(b, l, d) -> (b, l, d); `seen` (b or 1, 1, l or 1, l): which token sees which."""
        return self.module(x) if seen is None else self.module(x, attn_mask=self.additive(seen, x))

    def additive(self, seen: Tensor, x: Tensor) -> Tensor:
        """The mask as the module's own tower gives it: (l, l) or (b h, l, l), added to the scores."""
        seen = seen.expand(-1, -1, x.shape[1], -1)
        mask = torch.zeros_like(seen, dtype=x.dtype).masked_fill(~seen, float("-inf"))
        if mask.shape[0] == 1:
            return mask[0, 0]
        return mask.squeeze(1).repeat_interleave(self.module.attn.num_heads, dim=0)


def take_apart(module: nn.Module, kinds: Sequence[Any], **context: Any) -> Block | WholeBlock:
    """The pieces of a block if one of these kinds fits it; otherwise it runs whole."""
    for kind in kinds:
        if kind.fits(module):
            return kind(module, **context)
    return WholeBlock(module)


def is_adapted(module: nn.Module) -> bool:
    """Whether PEFT has put an adapter of another kind, such as LoRA, around a module."""
    return isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)


def project_rows(weight: Tensor, bias: Tensor | None, x: Tensor, first: int, last: int, heads: int) -> Tensor:
    """One matrix for queries, keys and values, of which [first, last) are wanted: (b, l, d) -> (s, b, h, l, c)."""
    third = weight.shape[0] // 3
    rows = slice(first * third, last * third)
    return split_heads(F.linear(x, weight[rows], None if bias is None else bias[rows]), heads, last - first)


def project_each(linears: Sequence[nn.Module], x: Tensor, heads: int) -> Tensor:
    """A linear map for each of s parts: (b, l, d) -> (s, b, h, l, c)."""
    return split_heads(torch.cat([linear(x) for linear in linears], dim=-1), heads, len(linears))


def split_heads(out: Tensor, heads: int, parts: int) -> Tensor:
    """(b, l, s h c) -> (s, b, h, l, c), a view: tokens stay outermost in memory."""
    return out.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4)


def join_heads(attended: Tensor) -> Tensor:
    """(b, h, l, c) -> (b, l, h c)."""
    return rearrange(attended, "b h l c -> b l (h c)")


def join(*parts: Tensor | None) -> Tensor:
    """Joins keys and values (2, b, h, ., c) along the tokens; a part of batch 1 is shared by all rows."""
    given = [part for part in parts if part is not None]
    if len(given) == 1:
        return given[0]
    batch = max(part.shape[1] for part in given)
    # Tokens stay outermost in memory, as the maps wrote them: [b l 2 h c].
    rows = [part.expand(-1, batch, -1, -1, -1).permute(1, 3, 0, 2, 4) for part in given]
    return torch.cat(rows, dim=1).permute(2, 0, 3, 1, 4)
