"""Texts of equal length under a causal mask, one after the other along one axis, padding included.

Shapes: c texts, l tokens of each after the first, t = c l, m keys before each text, b prefixes (1 where all texts share
it, else c), h heads, d width or channels of a head.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vilt_prompt.towers.blocks import Block, join


class Padded:
    """Texts of equal length, one after the other: t = c l."""

    def __init__(
        self, texts: int, length: int, ends: Tensor | None, before: int, seen: Tensor | None, device: torch.device
    ) -> None:
        """Args: c, l, and more that attention wants to know.

        ends: The column of the token that is pooled of each text, (c,); None: all are.
        before: How many keys stand before each text.
        seen: (c, 1, 1, l) bool, False for tokens that nobody sees; None: all are seen by those that follow.
        """
        self.texts, self.length, self.ends = texts, length, ends
        mask = torch.ones(length, before + length, dtype=torch.bool, device=device).tril(before)[None, None]
        self.mask = mask if seen is None else mask & F.pad(seen, (before, 0), value=True)

    def attend(self, block: Block, q: Tensor, before: Tensor, kv: Tensor) -> Tensor:
        """Queries (1, h, t, .), keys and values before each text (2, b, h, m, .) and its own (2, 1, h, t, .).

        Returns:
            (1, h, t, .).
        """
        q = rearrange(q, "1 h (c l) d -> c h l d", c=self.texts)
        kv = rearrange(kv, "s 1 h (c l) d -> s c h l d", c=self.texts)
        attended = block.attend(q, join(before, kv), self.mask)
        return rearrange(attended, "c h l d -> 1 h (c l) d")

    def attend_at_ends(self, block: Block, q: Tensor, before: Tensor, kv: Tensor) -> Tensor:
        """The same for the queries of the pooled tokens: (1, h, c, .)."""
        kv = rearrange(kv, "s 1 h (c l) d -> s c h l d", c=self.texts)
        mask = self.mask.expand(self.texts, -1, -1, -1)[torch.arange(self.texts, device=q.device), :, self.ends]
        q = rearrange(q, "1 h c d -> c h 1 d")
        attended = block.attend(q, join(before, kv), mask.unsqueeze(2))
        return rearrange(attended, "c h 1 d -> 1 h c d")

    def at_ends(self, x: Tensor) -> Tensor:
        """(1, t, d) -> (1, c, d), the pooled tokens."""
        assert self.ends is not None
        return x[:, torch.arange(self.texts, device=x.device) * self.length + self.ends]

    def in_order(self, x: Tensor) -> Tensor:
        """What `at_ends` gave, a layer on -> (c, 1, d)."""
        return rearrange(x, "1 c d -> c 1 d")
