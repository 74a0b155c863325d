"""open_clip's own image tower.

Shapes: B images, n prompts, d width, D features.
"""

from __future__ import annotations

from typing import Any

from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from vilt_prompt.towers.bidirectional import run_bidirectional
from vilt_prompt.towers.blocks import Block, WholeBlock
from vilt_prompt.towers.layers import Prompts
from vilt_prompt.towers.open_clip_blocks import block_refusal, pieces


class VisionTower:
    """A frozen `VisionTransformer`. Prompts stand after the patch tokens and go through `ln_pre` in layer 1."""

    family = "open_clip VisionTransformer"
    module_classes: tuple[type[nn.Module], ...] = (VisionTransformer,)

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual = visual
        self.stands_for = (visual, visual.transformer)
        self.layers = len(visual.transformer.resblocks)
        self.width: int = len(visual.conv1.weight)
        self.image_size: tuple[int, int] | None = visual.image_size

    @classmethod
    def owns(cls, visual: nn.Module) -> bool:
        """Whether an image tower is of this family."""
        return isinstance(visual, cls.module_classes)

    @staticmethod
    def refusal(visual: Any) -> str | None:
        """Why this tower cannot take prompts, or None."""
        if visual.pool_type == "none" and getattr(visual, "attn_pool_contrastive", None) is None:
            return "it does not pool its tokens"
        return block_refusal(visual.transformer)

    @property
    def blocks(self) -> list[Block | WholeBlock]:
        """The layers, in pieces where they can be taken apart."""
        return pieces(self.visual.transformer)

    def encode(self, images: Tensor, prompts: Prompts, with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        """(B, 3, H, W) and the (n, d) prompt of each layer -> (B, D), not normalised, and the tokens if wanted."""
        visual = self.visual
        pools_class_token = visual.attn_pool is None and visual.pool_type == "tok"
        x = run_bidirectional(
            self.blocks,
            visual._embeds(images),
            prompts,
            enter=visual.ln_pre,
            pooled=1 if pools_class_token and not with_tokens else None,
            checkpointing=visual.transformer.grad_checkpointing,
        )
        pooled, tokens = visual._pool(x)
        pooled = pooled.flatten(1)  # contrastive attention pooling leaves a dimension for its one query
        return pooled if visual.proj is None else pooled @ visual.proj, tokens if with_tokens else None
