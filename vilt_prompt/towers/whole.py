"""The plain path, for towers with blocks that cannot be decomposed: every prompt is a token, and nothing is skipped.

Such a block is of an unknown class, or PEFT has put an adapter around its attention. One of them is enough: then all
blocks of the tower are called as they are.

Shapes: b batch, l tokens, n prompts, h heads, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.towers.layers import Prompts, checkpointed, entering_prompt


class WholeBlock:
    """A block that is called as it is."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def run(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """Tokens (b, l, d) -> (b, l, d).

        Args:
            x: The tokens.
            seen: (b or 1, 1, l or 1, l) bool, which token sees which; None: every token sees all.
        """
        out: Tensor = self.module(x) if seen is None else self.module(x, attn_mask=self._added(seen, x))
        return out

    def _added(self, seen: Tensor, x: Tensor) -> Tensor:
        """The mask as open_clip's towers give it to their blocks: (l, l) or (b h, l, l), added to the scores."""
        seen = seen.expand(-1, -1, x.shape[1], -1)  # [b or 1, 1, l, l]
        mask = torch.zeros_like(seen, dtype=x.dtype).masked_fill(~seen, float("-inf"))
        if mask.shape[0] == 1:
            return mask[0, 0]  # [l l]
        heads: int = self.module.attn.num_heads  # type: ignore[union-attr, assignment]
        return mask.squeeze(1).repeat_interleave(heads, dim=0)  # [b*h l l]


class WholeBlocks(list[WholeBlock]):
    """All blocks of a tower, called as they are."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__(WholeBlock(module) for module in modules)

    def run(
        self,
        x: Tensor,
        prompts: Prompts,
        *,
        before: int,
        enter: Callable[[Tensor], Tensor],
        seen: Tensor | None = None,
        causal: bool = False,
        checkpointing: bool,
    ) -> Tensor:
        """Run tokens through all layers (Eq. 5, 7, 10 and 11).

        Args:
            x: (b, l, d) tokens, embedded.
            prompts: The prompt that enters each layer.
            before: How many tokens stand in front of the prompts.
            enter: Embeds the prompt (1, n, d) of the first layer, as the tower embeds its tokens.
            seen: (b, 1, 1, l) bool, False for tokens that no token sees; None: all are seen. Prompts always are.
            causal: Whether a token sees only itself and what stands before it.
            checkpointing: Whether each layer is computed again in the backward pass.

        Returns:
            (b, l, d), the tokens without the prompts.
        """
        n = 0  # the prompts among the tokens
        mask = _mask(seen, causal, before, n, x)
        for i, block in enumerate(self):
            prompt = entering_prompt(i, prompts, x, enter)
            if prompt is not None:
                # A fresh prompt replaces the outputs of the previous layer at the prompt positions.
                x = torch.cat(
                    [x[:, :before], prompt.expand(x.shape[0], -1, -1), x[:, before + n :]], dim=1
                )  # [b l+n d]
                if n != prompt.shape[1]:
                    n = prompt.shape[1]
                    mask = _mask(seen, causal, before, n, x)
            x = checkpointed(block.run, checkpointing)(x, mask)
        return torch.cat([x[:, :before], x[:, before + n :]], dim=1)


def _mask(seen: Tensor | None, causal: bool, before: int, n: int, x: Tensor) -> Tensor | None:
    """Which token sees which once n prompts are in: (b or 1, 1, l + n or 1, l + n)."""
    if seen is not None:
        prompts = F.pad(seen[..., :before], (0, n), value=True)
        seen = torch.cat([prompts, seen[..., before:]], dim=-1)  # [b 1 1 l+n]
    if not causal:
        return seen
    order = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()[None, None]
    return order if seen is None else order & seen
