"""open_clip's own `VisionTransformer`: how its tokens are embedded, which its blocks are, how it pools."""

from __future__ import annotations

from typing import Any

import torch
from einops import repeat
from open_clip.transformer import VisionTransformer
from torch import Tensor

from vilt_prompt.blocks import Block, attend, block_refusal, join, run_layer


class VisionTower:
    """A frozen `VisionTransformer` that runs with prompts.

    Prompts stand after the patch tokens, without position embedding, and take no part in pooling.
    """

    module_classes = (VisionTransformer,)

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual = visual
        self.layers = len(visual.transformer.resblocks)
        self.width: int = len(visual.conv1.weight)
        self.image_size: tuple[int, int] = visual.image_size

    @staticmethod
    def refusal(visual: Any) -> str | None:
        """Why this tower cannot take prompts, or None."""
        if visual.pool_type == "none" and getattr(visual, "attn_pool_contrastive", None) is None:
            return "it does not pool its tokens"
        return block_refusal(visual.transformer.resblocks)

    def encode(self, images: Tensor, prompts: list[Tensor | None]) -> Tensor:
        """(B, 3, H, W) images and the (n, d) prompt of each layer -> (B, D) features, not normalised."""
        visual = self.visual
        checkpointing = visual.transformer.grad_checkpointing
        x: Tensor = visual._embeds(images)  # [B l d], through ln_pre; a class token first
        tokens = x.shape[1]
        depth = sum(prompt is not None for prompt in prompts)
        for i, (module, prompt) in enumerate(zip(visual.transformer.resblocks, prompts, strict=True), start=1):
            if prompt is not None:
                prompt = repeat(prompt.to(x.dtype), "n d -> 1 n d")
                if i == 1:
                    prompt = visual.ln_pre(prompt)
                if i == depth < self.layers:  # carried from here on: from now on the prompts are tokens
                    x = torch.cat([x, prompt.expand(len(x), -1, -1)], dim=1)
                    prompt = None
            if i < self.layers:
                x = run_layer(_layer, Block(module), x, prompt, checkpointing=checkpointing)
            else:
                asking = 1 if self._pools_class_token else tokens
                x = run_layer(_last_layer, Block(module), x, prompt, asking, checkpointing=checkpointing)
        # Contrastive attention pooling leaves a dimension for its one query.
        pooled: Tensor = visual._pool(x)[0].flatten(1)
        return pooled if visual.proj is None else pooled @ visual.proj

    @property
    def _pools_class_token(self) -> bool:
        return self.visual.attn_pool is None and self.visual.pool_type == "tok"


def _layer(block: Block, x: Tensor, prompt: Tensor | None) -> Tensor:
    """[x, _] = V_i([x, P]): (B, l, d) -> (B, l, d). The prompt (1, n, d) is keys and values, nothing else."""
    q, k, v = block.qkv(x)
    return block.update(x, attend(q, *_join_prompt(block, k, v, prompt)))


def _last_layer(block: Block, x: Tensor, prompt: Tensor | None, asking: int) -> Tensor:
    """The last layer, for the tokens that are pooled: (B, l, d) -> (B, asking, d)."""
    k, v = _join_prompt(block, *block.kv(x), prompt)
    x = x[:, :asking]
    return block.update(x, attend(block.q(x), k, v))


def _join_prompt(block: Block, k: Tensor, v: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor]:
    if prompt is None:
        return k, v
    prompt_k, prompt_v = block.kv(prompt)
    return join(k, prompt_k), join(v, prompt_v)
