"""open_clip's transformer blocks, decomposed.

Shapes: b batch, l tokens, h heads, c channels of a head, d width.
"""

from __future__ import annotations

import torch
from open_clip.transformer import Attention, CustomResidualAttentionBlock, ResidualAttentionBlock, Transformer
from torch import Tensor, nn

from vilt_prompt.towers.blocks import Block, ForeignModule, is_adapted, join_heads, project_rows
from vilt_prompt.towers.sharding import class_of
from vilt_prompt.towers.whole import WholeBlocks


class OpenClipBlock(Block):
    """`ResidualAttentionBlock` and `CustomResidualAttentionBlock`, with torch's attention or open_clip's own."""

    def __init__(self, module: ForeignModule) -> None:
        attn = module.attn
        super().__init__(module, attn, attn.dropout if isinstance(attn, nn.MultiheadAttention) else attn.attn_drop.p)

    @classmethod
    def fits(cls, module: ForeignModule) -> bool:
        """Whether block and attention are exactly of known classes. Neither a subclass nor an adapted attention is."""
        attn = getattr(module, "attn", None)
        known = type(attn) in (nn.MultiheadAttention, Attention) and getattr(attn, "in_proj_weight", None) is not None
        return known and class_of(module) in (ResidualAttentionBlock, CustomResidualAttentionBlock)

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Project with the one matrix that both classes of attention have."""
        attn = self.attn
        parts = project_rows(attn.in_proj_weight, attn.in_proj_bias, self.module.ln_1(x), first, last, attn.num_heads)
        if hasattr(attn, "ln_q"):  # open_clip's own attention may norm queries and keys, but not values
            norms = (attn.ln_q, attn.ln_k, nn.Identity())[first:last]
            parts = torch.stack([norm(part) for norm, part in zip(norms, parts, strict=True)])  # [s b h l c]
        return parts

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """Run the output map, and add the residual; the custom block has more norms, and a scale for each head."""
        module, attn = self.module, self.attn
        if getattr(attn, "head_scale", None) is not None:
            attended = attended * attn.head_scale  # [b h l c]
        out = join_heads(attended)  # [b l h*c]
        out = attn.out_proj(attn.ln_inner(out) if hasattr(attn, "ln_inner") else out)
        out = attn.out_drop(out) if hasattr(attn, "out_drop") else out
        return x + module.ls_1(module.ln_attn(out) if hasattr(module, "ln_attn") else out)  # [b l d]

    def add_mlp(self, x: Tensor) -> Tensor:
        """Run the MLP, and add the residual."""
        module = self.module
        return x + module.ls_2(module.mlp(module.ln_2(x)))


def blocks_of(transformer: Transformer) -> list[OpenClipBlock] | WholeBlocks:
    """The blocks of one of open_clip's transformers, decomposed if all of them can be.

    Raises:
        ValueError: If an adapter of another kind is on an attention that ignores it.
    """
    for module in transformer.resblocks:
        check_attention(module.attn)
    # One block that cannot be decomposed makes the whole tower take the plain path: a layout that only some layers
    # understand would need conversions between them.
    if all(OpenClipBlock.fits(module) for module in transformer.resblocks):
        return [OpenClipBlock(module) for module in transformer.resblocks]
    return WholeBlocks(transformer.resblocks)


def block_refusal(transformer: Transformer) -> str | None:
    """Why the blocks of a transformer cannot run at all, or None."""
    if any(getattr(block.attn, "logit_scale", None) is not None for block in transformer.resblocks):
        return "its blocks have scaled cosine attention, which open_clip's own forward cannot run either"
    return None


def check_attention(attention: nn.Module) -> None:
    """Raise a ValueError if there is an adapter where torch's attention ignores it.

    `nn.MultiheadAttention` reads the weights of its output projection and never calls it. This is checked at each call,
    because an adapter can be added after `wrap`.
    """
    if type(attention) is nn.MultiheadAttention and is_adapted(attention.out_proj):
        raise ValueError(
            "there is an adapter of another kind, such as LoRA, on out_proj inside an nn.MultiheadAttention, which "
            'ignores it: adapt the whole attention, LoraConfig(target_modules=["attn"]), or ["c_fc", "c_proj"]'
        )
