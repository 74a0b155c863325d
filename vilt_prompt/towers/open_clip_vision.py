"""open_clip's own image tower.

Shapes: B images, l tokens, n prompts, d width, D features.
"""

from __future__ import annotations

from typing import ClassVar

from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from vilt_prompt.towers.bidirectional import run_bidirectional
from vilt_prompt.towers.layers import Prompts
from vilt_prompt.towers.open_clip_blocks import OpenClipBlock, block_refusal, blocks_of
from vilt_prompt.towers.whole import WholeBlocks


class OpenClipVisionTower:
    """A frozen `VisionTransformer`. Prompts stand after the patch tokens and go through `ln_pre` in layer 1."""

    family = "open_clip VisionTransformer"
    module_classes: ClassVar[tuple[type[nn.Module], ...]] = (VisionTransformer,)

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual = visual

    @classmethod
    def owns(cls, visual: nn.Module) -> bool:
        """Whether an image tower belongs to this family."""
        return isinstance(visual, cls.module_classes)

    @staticmethod
    def refusal(visual: VisionTransformer) -> str | None:
        """Why this tower cannot take prompts, or None."""
        if visual.pool_type == "none" and getattr(visual, "attn_pool_contrastive", None) is None:
            return "it does not pool its tokens"
        return block_refusal(visual.transformer)

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.visual.transformer.resblocks)

    @property
    def width(self) -> int:
        """The width d of a token."""
        return len(self.visual.conv1.weight)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of its images."""
        return self.visual.image_size

    @property
    def stands_for(self) -> tuple[nn.Module, ...]:
        """The modules whose forward `encode` replaces."""
        return self.visual, self.visual.transformer

    @property
    def blocks(self) -> list[OpenClipBlock] | WholeBlocks:
        """The layers."""
        return blocks_of(self.visual.transformer)

    def encode(self, images: Tensor, prompts: Prompts, with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        """Encode images (B, 3, H, W) with the (n, d) prompt of each layer.

        Returns:
            Features (B, D), not normalised, and the tokens (B, l, d) if they are wanted.
        """
        visual = self.visual
        # Attention pooling and mean pooling read all tokens of the last layer. Otherwise only the class token, which is
        # the first one, is read.
        pools_class_token = visual.attn_pool is None and visual.pool_type == "tok"
        x = run_bidirectional(
            self.blocks,
            visual._embeds(images),  # [B l d], with class token and position embeddings, after `ln_pre`
            prompts,
            enter=visual.ln_pre,
            pooled=1 if pools_class_token and not with_tokens else None,
            checkpointing=visual.transformer.grad_checkpointing,
        )
        pooled, tokens = visual._pool(x)
        pooled = pooled.flatten(1)  # contrastive attention pooling leaves a dimension for its one query: [B 1 d]
        return pooled if visual.proj is None else pooled @ visual.proj, tokens if with_tokens else None
