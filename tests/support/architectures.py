"""Tiny open_clip models, one for each feature of a tower that prompts must get right.

The weights are random at a generous scale: open_clip's own initialisation leaves prompts almost without effect, and a
test that compares features which do not depend on the prompts proves nothing.
"""

from __future__ import annotations

import math

import open_clip
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from torch import Tensor, nn

VOCABULARY = 100
CONTEXT_LENGTH = 24
START, END = 98, 99

VISION = {"layers": 5, "width": 48, "head_width": 16, "mlp_ratio": 2.0, "image_size": 16, "patch_size": 8}
TEXT = {
    "layers": 4,
    "width": 32,
    "heads": 2,
    "mlp_ratio": 2.0,
    "context_length": CONTEXT_LENGTH,
    "vocab_size": VOCABULARY,
}
# The contrastive pooler reads ln_post's output, which open_clip sizes by the embedding: the two widths must agree.
CONTRASTIVE_POOL = {"width": 24, "head_width": 12, "attn_pooler_queries": 3, "attn_pooler_heads": 2}
CUSTOM_BLOCK = {"qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "scale_attn": True, "scale_fc": True}

# For each name: the differences from VISION and TEXT, and the arguments of the model itself.
ARCHITECTURES: dict[str, tuple[dict, dict, dict]] = {
    # layers of the vision tower / of the text tower
    "12/12": ({"layers": 12}, {"layers": 12}, {}),
    "24/12": ({"layers": 24}, {"layers": 12}, {}),
    "10/12": ({"layers": 10}, {"layers": 12}, {}),
    "4/4": ({"layers": 4}, {"layers": 4}, {}),
    "5/3": ({"layers": 5}, {"layers": 3}, {}),
    "2/2": ({"layers": 2}, {"layers": 2}, {}),
    # blocks
    "quick_gelu": ({}, {}, {"quick_gelu": True}),
    "layer_scale": ({"ls_init_value": 0.1}, {"ls_init_value": 0.1}, {}),
    "norm_eps": ({"norm_kwargs": {"eps": 0.05}}, {"norm_kwargs": {"eps": 0.05}}, {}),
    "equal_widths": ({"width": 32}, {"width": 32}, {}),
    # vision tower: embedding and pooling
    "no_ln_pre": ({"no_ln_pre": True}, {}, {}),
    "sin_cos": ({"pos_embed_type": "sin_cos_2d"}, {}, {}),
    "patch_dropout": ({"patch_dropout": 0.5}, {}, {}),
    "rectangular": ({"image_size": (16, 24)}, {}, {}),
    "mean_pool": ({"pool_type": "avg"}, {}, {}),
    "final_ln_after_pool": ({"final_ln_after_pool": True}, {}, {}),
    "mean_pool_final_ln": ({"pool_type": "avg", "final_ln_after_pool": True}, {}, {}),
    "attention_pool_one_query": (
        {"attentional_pool": True, "attn_pooler_queries": 1, "attn_pooler_heads": 2},
        {},
        {},
    ),
    "attention_pool": ({"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 2}, {}, {}),
    "attention_pool_mean": (
        {"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 2, "pool_type": "avg"},
        {},
        {},
    ),
    "attention_pool_parallel": ({"attentional_pool": "parallel", **CONTRASTIVE_POOL}, {}, {}),
    "attention_pool_cascade": ({"attentional_pool": "cascade", **CONTRASTIVE_POOL}, {}, {}),
    # text tower: pooling and projection
    "eos_pool": ({}, {"pool_type": "eos", "eos_id": 2}, {}),
    "custom_text": ({}, {}, {"custom_text": True}),
    "custom_text_eos_pool": ({}, {"pool_type": "eos", "eos_id": 2}, {"custom_text": True}),
    "linear_projection": ({}, {"proj_bias": True}, {}),
    "no_projection": ({}, {"proj_type": "none", "width": 24}, {"custom_text": True}),
    "last_pool": ({}, {"pool_type": "last"}, {}),
    # a block of another kind
    "custom_blocks": (CUSTOM_BLOCK, CUSTOM_BLOCK, {}),
}
DEPTHS = ("12/12", "24/12", "10/12", "4/4")
# Pooling the last token leaves no room for prompts in full rows, and prompts do not go into custom blocks.
FEATURES = tuple(name for name in ARCHITECTURES if name not in ("2/2", "5/3", *DEPTHS, "last_pool", "custom_blocks"))


def build(name: str, seed: int = 0, **model_arguments) -> nn.Module:
    """Builds the named model in eval mode, with the same weights for the same seed."""
    vision, text, arguments = ARCHITECTURES[name]
    return assemble(vision, text, {**arguments, **model_arguments}, seed)


def assemble(vision: dict, text: dict, arguments: dict, seed: int = 0) -> nn.Module:
    """Builds a model from its differences from VISION and TEXT and its own arguments, in eval mode."""
    arguments = {"embed_dim": 24, **arguments}
    model_class = CustomTextCLIP if arguments.pop("custom_text", False) else CLIP
    clip = model_class(
        vision_cfg=CLIPVisionCfg(**{**VISION, **vision}),
        text_cfg=CLIPTextCfg(**{**TEXT, **text}),
        **arguments,
    )
    randomise(clip, seed)
    return clip.eval()


@torch.no_grad()
def randomise(clip: nn.Module, seed: int) -> None:
    """Fills a model with weights under which every part of it moves the features."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in clip.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name in ("logit_scale", "logit_bias"):
            continue
        if is_token(name):
            weight.copy_(0.5 * noise)
        elif name.endswith(("gamma", "head_scale")):
            weight.copy_(0.4 + 0.2 * noise)
        elif weight.ndim == 1:
            weight.copy_(0.2 * noise + (1 if is_norm_weight(name) else 0))
        else:
            weight.copy_(noise / math.sqrt(weight[0].numel()))


def is_token(name: str) -> bool:
    """Whether a parameter holds tokens, or embeddings that are added to tokens."""
    tokens = ("embedding", "embed_tokens", "pos_embed", "cls_emb", "cls_token", "reg_token", "latent", "query")
    return any(part in name for part in tokens) and "norm" not in name.lower()


def is_norm_weight(name: str) -> bool:
    """Whether a one-dimensional parameter is a norm's gain, which belongs around 1."""
    return name.endswith("weight")


def class_ids(clip: nn.Module, lengths: list[int], columns: int = CONTEXT_LENGTH, seed: int = 0) -> Tensor:
    """Token ids of classes whose names have the given numbers of tokens, as a tokenizer would give them: (C, columns).

    Under `eos` pooling the end token is not the largest id, so that a tower pooled at the wrong place is found out.
    """
    eos_id = eos_pooled_id(clip)
    start, end = (START, END) if eos_id is None else (1, eos_id)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), columns, dtype=torch.long)
    for row, length in zip(ids, lengths, strict=True):
        name = torch.randint(3, START, (length,), generator=generator)
        row[: length + 2] = torch.cat([torch.tensor([start]), name, torch.tensor([end])])
    return ids


def eos_pooled_id(clip: nn.Module) -> int | None:
    """The end token of a tower with `eos` pooling, None for the others."""
    if hasattr(clip, "text"):
        return clip.text.eos_id if clip.text.pool_type == "eos" else None
    return clip.text_eos_id if clip.text_pool_type == "eos" else None


def frames(clip: nn.Module, *batch: int, seed: int = 0) -> Tensor:
    """Random images of the size that the model takes: (*batch, 3, H, W)."""
    size = clip.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(*batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def of_unknown_kind(model: nn.Module) -> nn.Module:
    """Gives the attentions a class that no part of the library knows, so that their blocks run whole."""
    for module in model.modules():
        if type(module) in (nn.MultiheadAttention, open_clip.transformer.Attention):
            module.__class__ = type("Unknown", (type(module),), {})
    return model


def ids_of(names: list[list[int]]) -> Tensor:
    """Token ids `(C, L)` of names given as the ids of their words, between start and end token."""
    ids = torch.zeros(len(names), CONTEXT_LENGTH, dtype=torch.long)
    for row, name in zip(ids, names, strict=True):
        row[: len(name) + 2] = torch.tensor([START, *name, END])
    return ids
