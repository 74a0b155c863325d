"""The literal computation for timm's vision transformers, see `literal`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn

from tests.reference.literal_rows import Prompts, repeated

Parts = tuple[Tensor, nn.Module, list[Callable[[Tensor], Tensor]]]


def timm_blocks(visual: nn.Module) -> list[nn.Module]:
    """The blocks of a `TimmModel`. A trunk that is not a ViT has none."""
    return list(visual.trunk.blocks) if type(visual.trunk) in PARTS else []


def timm_width(visual: nn.Module) -> int:
    """Width of a `TimmModel` whose trunk is a ViT."""
    return visual.trunk.embed_dim


def literal_timm_image(visual: nn.Module, images: Tensor, prompts: Prompts) -> Tensor:
    """Encodes `[class, registers, patches, P]`, as far as the trunk has them.

    Args:
        visual: open_clip's `TimmModel` with a ViT as its trunk.
        images: (B, 3, H, W).
        prompts: What enters each layer.

    Returns:
        (B, D) features, not normalised.
    """
    trunk = visual.trunk
    n = 0 if prompts[0] is None else len(prompts[0])
    x, norm_pre, blocks = PARTS[type(trunk)](trunk, images, n)
    tokens = x.shape[1]
    if n:
        x = torch.cat([x, repeated(prompts[0], x)], dim=1)
    x = norm_pre(x)
    for block, prompt in zip(blocks, [None, *prompts[1:]], strict=True):
        if prompt is not None:
            x = torch.cat([x[:, :tokens], repeated(prompt, x)], dim=1)
        x = block(x)
    return visual.head(trunk.forward_head(trunk.norm(x[:, :tokens])))


def vit_parts(trunk: nn.Module, images: Tensor, n: int) -> Parts:
    """The tokens without prompts, (B, N, d), the norm before the blocks, and the blocks."""
    x = trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(images)))
    return x, trunk.norm_pre, list(trunk.blocks)


def eva_parts(trunk: nn.Module, images: Tensor, n: int) -> Parts:
    """The same with rotary embeddings, which turn prompts by nothing: sine 0, cosine 1."""
    x, rope = trunk._pos_embed(trunk.patch_embed(images))
    if rope is not None:
        sine = rope.new_zeros(n, rope.shape[1] // 2)
        rope = torch.cat([rope, torch.cat([sine, sine + 1], dim=1)])  # [patches + n, sine and cosine]
    return x, trunk.norm_pre, [partial(block, rope=rope) for block in trunk.blocks]


def relpos_parts(trunk: nn.Module, images: Tensor, n: int) -> Parts:
    """The same with biases between positions, which are zero to and from prompts."""
    x = trunk.patch_embed(images)
    if trunk.cls_token is not None:
        x = torch.cat([repeated(trunk.cls_token[0], x), x], dim=1)
    blocks = []
    for block in trunk.blocks:
        own_bias = trunk.shared_rel_pos or block.attn.rel_pos
        bias = nn.functional.pad(own_bias.get_bias(), (0, n, 0, n))  # [1, heads, N + n, N + n]
        block = copy.deepcopy(block)
        block.attn.rel_pos = None  # a block with a bias of its own does not look at the one it is given
        blocks.append(partial(block, shared_rel_pos=bias))
    return x, nn.Identity(), blocks


PARTS = {
    VisionTransformer: vit_parts,
    VisionTransformerDistilled: vit_parts,
    Eva: eva_parts,
    VisionTransformerRelPos: relpos_parts,
}
