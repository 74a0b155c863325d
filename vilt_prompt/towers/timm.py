"""timm's plain vision transformers in open_clip's `TimmModel`: `VisionTransformer`, `Eva`, `VisionTransformerRelPos`.

The trunk's own methods embed and pool. Prompts stand after the patch tokens.

Shapes: B images, b batch, l tokens, n prompts, h heads, c channels of a head, d width, D features.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from open_clip.timm_model import TimmModel
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models import eva
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import (  # type: ignore[attr-defined]  # timm.layers has Attention since 1.0.20
    Attention,
    ResPostBlock,
    VisionTransformer,
)
from timm.models.vision_transformer import Block as ViTBlock
from timm.models.vision_transformer_relpos import (
    RelPosAttention,
    RelPosBlock,
    ResPostRelPosBlock,
    VisionTransformerRelPos,
)
from torch import Tensor, nn

from vilt_prompt.towers.bidirectional import run_bidirectional
from vilt_prompt.towers.blocks import (
    Block,
    ForeignModule,
    is_adapted,
    join_heads,
    project_each,
    project_rows,
    split_heads,
)
from vilt_prompt.towers.layers import Prompts
from vilt_prompt.towers.sharding import class_of
from vilt_prompt.towers.whole import WholeBlocks

PRE_NORM = (ViTBlock, EvaBlock, RelPosBlock)
# timm before 1.0.20 has no attention with rotary embeddings apart from EVA's.
ATTENTIONS = (Attention, getattr(eva, "AttentionRope", EvaAttention), EvaAttention, RelPosAttention)
POST_NORM = (ResPostBlock, EvaBlockPostNorm, ResPostRelPosBlock)


class TimmBlock(Block):
    """A block of timm's: pre-norm, or post-norm in its residual branches.

    Attributes:
        rope: Its rotary embedding, (l, 2c) or (..., l, 2c), or None. It depends on the images.
        shared_bias: (1, h, l, l), the bias that all layers share, or None.
    """

    rope: Tensor | None = None
    shared_bias: Tensor | None = None

    def __init__(self, module: ForeignModule) -> None:
        super().__init__(module, module.attn, module.attn.attn_drop.p)

    @classmethod
    def fits(cls, module: ForeignModule) -> bool:
        """Whether block and attention are exactly of known classes, without gates or shared heads."""
        attn = getattr(module, "attn", None)
        return (
            class_of(module) in PRE_NORM + POST_NORM
            and type(attn) in ATTENTIONS
            and getattr(attn, "gate", None) is None
            and getattr(attn, "num_kv_groups", 1) == 1
        )

    @property
    def bias(self) -> Tensor | None:
        """(1, h, l, l), or None. A layer's own is made when the layer runs: those of all layers would not be small."""
        rel_pos = getattr(self.attn, "rel_pos", None)
        own: Tensor | None = None if rel_pos is None else rel_pos.get_bias()
        return self.shared_bias if own is None else own

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Project with one fused map, or three, then norm queries and keys."""
        attn = self.attn
        heads = attn.num_heads
        if isinstance(self.module, PRE_NORM):
            x = self.module.norm1(x)
        if attn.qkv is None:
            parts = project_each((attn.q_proj, attn.k_proj, attn.v_proj)[first:last], x, heads)
        elif type(attn.qkv) is nn.Linear:
            # EVA's keys have no bias that is learned, so the module keeps the three apart.
            apart = getattr(attn, "q_bias", None) is not None
            bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]) if apart else attn.qkv.bias
            parts = project_rows(attn.qkv.weight, bias, x, first, last, heads)
        else:  # an adapter has replaced it, so that it cannot be sliced
            parts = split_heads(attn.qkv(x), heads, parts=3)[first:last]  # [s b h l c]
        norms = (attn.q_norm, attn.k_norm, nn.Identity())[first:last]
        if all(isinstance(norm, nn.Identity) for norm in norms):
            return parts
        return torch.stack([norm(part) for norm, part in zip(norms, parts, strict=True)])

    def rotate(self, projected: Tensor) -> Tensor:
        """Rotate the patches, but not the tokens before them, nor prompts that are carried behind them."""
        if self.rope is None:
            return projected
        start = self.attn.num_prefix_tokens
        # Along the tokens: class and register tokens, the patches, carried prompts.
        before, patches, after = projected.tensor_split((start, start + self.rope.shape[-2]), dim=2)
        if patches.shape[2] == 0:  # in the last layer, the class token may be the only query
            return projected
        rotated = apply_rot_embed_cat(patches, self.rope, **self._layout())
        return torch.cat([before, rotated, after], dim=2).type_as(projected)  # [b h l c]

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """Run the output map, with its norm, its layer scale and its stochastic depth, and add the residual."""
        module, attn = self.module, self.attn
        out = join_heads(attended)  # [b l h*c]
        out = attn.proj_drop(attn.proj(attn.norm(out) if hasattr(attn, "norm") else out))
        return x + module.drop_path1(module.norm1(out) if isinstance(module, POST_NORM) else self._scaled(1, out))

    def add_mlp(self, x: Tensor) -> Tensor:
        """Run the MLP, with its norm, its layer scale and its stochastic depth, and add the residual."""
        module = self.module
        if isinstance(module, POST_NORM):
            return x + module.drop_path2(module.norm2(module.mlp(x)))
        return x + module.drop_path2(self._scaled(2, module.mlp(module.norm2(x))))

    def _scaled(self, branch: int, out: Tensor) -> Tensor:
        """Apply a branch's layer scale, which is a module in timm's ViTs and a parameter in Eva."""
        if hasattr(self.module, f"ls{branch}"):
            return getattr(self.module, f"ls{branch}")(out)
        gamma = getattr(self.module, f"gamma_{branch}", None)
        return out if gamma is None else gamma * out

    def _layout(self) -> dict[str, bool]:
        # Older releases of timm have only one layout of rotary embeddings.
        return {"half": True} if getattr(self.attn, "rotate_half", False) else {}


class TimmVisionTower:
    """A frozen `TimmModel` whose trunk is a plain vision transformer."""

    module_classes: ClassVar[tuple[type[nn.Module], ...]] = (VisionTransformer, Eva, VisionTransformerRelPos)

    def __init__(self, visual: TimmModel) -> None:
        self.visual = visual
        self.trunk: ForeignModule = visual.trunk

    @classmethod
    def owns(cls, visual: nn.Module) -> bool:
        """Whether an image tower belongs to this family."""
        return isinstance(visual, TimmModel) and isinstance(visual.trunk, cls.module_classes)

    @staticmethod
    def refusal(visual: TimmModel) -> str | None:
        """Why this tower cannot take prompts, or None."""
        trunk = visual.trunk
        if not trunk.global_pool:
            return "it does not pool its tokens"
        if isinstance(trunk, VisionTransformer):
            return None  # its blocks, whatever their class, are called with tokens alone
        unknown = [block for block in trunk.blocks if not TimmBlock.fits(block)]
        if unknown:
            kind = f"{type(unknown[0]).__name__} with {type(getattr(unknown[0], 'attn', None)).__name__}"
            return f"its blocks are {kind}, which need position embeddings of prompts as well"
        return None

    @property
    def family(self) -> str:
        """The name of the family."""
        return f"timm {type(self.trunk).__name__}"

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.trunk.blocks)

    @property
    def width(self) -> int:
        """The width d of a token."""
        width: int = self.trunk.embed_dim
        return width

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of its images; None for a trunk that resamples its position embedding for each image."""
        return None if getattr(self.trunk, "dynamic_img_size", False) else self.visual.image_size

    @property
    def stands_for(self) -> tuple[nn.Module, ...]:
        """The modules whose forward `encode` replaces."""
        return self.visual, self.trunk

    @property
    def blocks(self) -> list[TimmBlock] | WholeBlocks:
        """The layers, decomposed if all of them can be.

        Raises:
            ValueError: If an adapter of another kind is on an attention that ignores it.
        """
        modules = self.trunk.blocks
        for module in modules:
            check_attention(getattr(module, "attn", module))
        if all(TimmBlock.fits(module) for module in modules):
            return [TimmBlock(module) for module in modules]
        return WholeBlocks(modules)

    def encode(self, images: Tensor, prompts: Prompts, with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        """Encode images (B, 3, H, W) with the (n, d) prompt of each layer.

        Returns:
            Features (B, D), not normalised, and the tokens (B, l, d) if they are wanted.

        Raises:
            ValueError: If the trunk's blocks have been replaced by others that cannot take prompts.
        """
        trunk = self.trunk
        reason = self.refusal(self.visual)
        if reason is not None:
            raise ValueError(
                f"the vision tower {type(trunk).__name__} has been changed since it was given prompts: {reason}. Keep "
                "their classes; to compile one in place, call block.compile()"
            )
        blocks = self.blocks
        pools_class_token = trunk.global_pool == "token" and getattr(trunk, "attn_pool", None) is None
        class_tokens = 2 if hasattr(trunk, "dist_token") else 1  # DeiT's head reads both
        x = run_bidirectional(
            blocks,
            self._embed(images, blocks),
            prompts,
            enter=getattr(trunk, "norm_pre", nn.Identity()),
            pooled=class_tokens if pools_class_token and not with_tokens else None,
            checkpointing=trunk.grad_checkpointing,
        )
        x = trunk.norm(x)  # [B l d]
        return self.visual.head(trunk.forward_head(x)), x if with_tokens else None

    def _embed(self, images: Tensor, blocks: list[TimmBlock] | WholeBlocks) -> Tensor:
        """Embed images: (B, l, d). The layers get what depends on the images or is shared by all layers.

        Nothing else refers to the result, so that it is freed when the first layer is done.
        """
        trunk = self.trunk
        x = trunk.patch_embed(images)  # [B l d], or [B h w d] for timm's `_pos_embed` to flatten
        if isinstance(trunk, VisionTransformerRelPos):
            if trunk.cls_token is not None:
                x = torch.cat([trunk.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # [B l d]
            bias = None if trunk.shared_rel_pos is None else trunk.shared_rel_pos.get_bias()
            assert not isinstance(blocks, WholeBlocks)  # `refusal` refuses them
            for block in blocks:
                block.shared_bias = bias
        elif isinstance(trunk, Eva):
            x, rope = trunk._pos_embed(x)
            x = trunk.norm_pre(x)
            assert not isinstance(blocks, WholeBlocks)
            for i, block in enumerate(blocks):
                # In mixed mode each layer has rotary embeddings of its own.
                block.rope = rope[i] if rope is not None and getattr(trunk, "rope_mixed", False) else rope
        else:
            x = trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(x)))
        return x


def check_attention(attention: nn.Module) -> None:
    """Raise a ValueError if there is an adapter where EVA01's attention ignores it.

    It reads the weights of its `qkv` and never calls it. This is checked at each call, because an adapter can be added
    after `wrap`.
    """
    if isinstance(attention, EvaAttention) and attention.q_bias is not None and is_adapted(attention.qkv):
        raise ValueError(
            "there is an adapter of another kind, such as LoRA, on qkv inside an EvaAttention, which ignores it: adapt "
            'the output maps and the MLPs, LoraConfig(target_modules=["proj", "fc1", "fc2"])'
        )
