"""The padded layout: texts of equal length, padding included, one after the other along one axis.

Shapes: c texts, l tokens of each after the first, t = c l, m keys in front of each text, b prefixes (1 if all texts
share it, else c), h heads, d width or channels of a head.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vilt_prompt.towers.blocks import Block, join


class Padded:
    """Texts of equal length: t = c l.

    Attributes:
        texts: c.
        length: l.
        ends: (c,), the column of each text's pooled token; None: all tokens are read.
        mask: (1 or c, 1, l, m + l) bool, the keys that each token sees.
    """

    def __init__(
        self, texts: int, length: int, ends: Tensor | None, before: int, seen: Tensor | None, device: torch.device
    ) -> None:
        """Lay out texts.

        Args:
            texts: c.
            length: l.
            ends: (c,), the column of each text's pooled token; None: all tokens are read.
            before: m, the number of keys in front of each text. All tokens see them.
            seen: (c, 1, 1, l) bool, False for tokens that no token sees; None: all are seen by the tokens after them.
            device: Where the mask is made.
        """
        self.texts, self.length, self.ends = texts, length, ends
        mask = torch.ones(length, before + length, dtype=torch.bool, device=device).tril(before)[None, None]
        self.mask = mask if seen is None else mask & F.pad(seen, (before, 0), value=True)

    def attend(self, block: Block, q: Tensor, prefix_kv: Tensor, kv: Tensor) -> Tensor:
        """Let each token see its own text.

        Args:
            block: The layer.
            q: (1, h, t, d) queries.
            prefix_kv: (2, b, h, m, d) keys and values in front of each text.
            kv: (2, 1, h, t, d) keys and values of the texts.

        Returns:
            (1, h, t, d).
        """
        q = rearrange(q, "1 h (c l) d -> c h l d", c=self.texts)
        attended = block.attend(q, self._keys(prefix_kv, kv), self.mask)  # [c h l d]
        return rearrange(attended, "c h l d -> 1 h (c l) d")

    def attend_at_ends(self, block: Block, q: Tensor, prefix_kv: Tensor, kv: Tensor) -> Tensor:
        """Let the pooled tokens, with queries (1, h, c, d), see their own texts: (1, h, c, d)."""
        assert self.ends is not None
        rows = torch.arange(self.texts, device=q.device)
        mask = self.mask.expand(self.texts, -1, -1, -1)[rows, :, self.ends]  # [c 1 m+l]
        q = rearrange(q, "1 h c d -> c h 1 d")
        attended = block.attend(q, self._keys(prefix_kv, kv), mask.unsqueeze(2))  # [c h 1 d]
        return rearrange(attended, "c h 1 d -> 1 h c d")

    def at_ends(self, x: Tensor) -> Tensor:
        """The pooled tokens of (1, t, d): (1, c, d)."""
        assert self.ends is not None
        return x[:, torch.arange(self.texts, device=x.device) * self.length + self.ends]

    def _keys(self, prefix_kv: Tensor, kv: Tensor) -> Tensor:
        """Keys and values of each text and in front of it: (2, c, h, m + l, d)."""
        return join(prefix_kv, rearrange(kv, "s 1 h (c l) d -> s c h l d", c=self.texts))
