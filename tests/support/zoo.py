"""Shrunken real instances of every tower family in open_clip's zoo: every kind of block, pooling and mask.

Each member is an open_clip object built by open_clip's own constructors out of the same timm and transformers classes
as the model it stands for, with fewer layers, narrower, and with random weights (see `architectures.randomise`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

import timm
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg, CoCa, CustomTextCLIP
from timm.models.vision_transformer_hybrid import ConvStem, _create_vision_transformer_hybrid
from timm.models.vitamin import VitCfg, VitConvCfg
from torch import Tensor, nn
from transformers import BertConfig, M2M100Config, MT5Config, PretrainedConfig, RobertaConfig, XLMRobertaConfig

from tests.support.architectures import CONTEXT_LENGTH, TEXT, VISION, VOCABULARY, frames, randomise

__all__ = ["BEYOND_THE_ZOO", "MEMBERS", "REFUSED", "WITHOUT_VIT", "build", "frames", "text_ids"]

EMBEDDING = 24
CLIP_TOKENS = (98, 99, 0)
LANGUAGE = 97

SMALL = {"embed_dim": 48, "depth": 4, "num_heads": 3, "patch_size": 8, "img_size": 24}
SMALL_WITH_STEM = {"embed_dim": 48, "depth": 4, "num_heads": 3, "img_size": 48}
SMALL_VITAMIN = VitCfg(
    embed_dim=(8, 16, 48),
    depths=(1, 1, 1),
    stem_width=8,
    conv_cfg=VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6),
    head_type="1d",
)

# For each timm tower of the zoo that is not just another size: the timm model, and what makes it small.
TRUNKS: dict[str, tuple[str, dict]] = {
    "siglip": ("vit_base_patch16_siglip_224", SMALL),
    "siglip_tanh": ("vit_so400m_patch16_siglip_256", SMALL),
    "gap": ("vit_medium_patch16_gap_256", SMALL),
    "clip_large": ("vit_large_patch14_clip_224", SMALL),
    "vitamin": ("vitamin_small_224", {**SMALL_WITH_STEM, "embed_cfg": SMALL_VITAMIN}),
    "vitamin_xlarge": ("vitamin_xlarge_256", {**SMALL_WITH_STEM, "embed_cfg": SMALL_VITAMIN}),
    "relpos_cls": ("vit_relpos_medium_patch16_cls_224", {**SMALL, "rel_pos_dim": 16}),
    "eva01": ("eva_giant_patch14_224", SMALL),
    "eva02": ("eva02_base_patch16_clip_224", SMALL),
    "eva02_enormous": ("eva02_enormous_patch14_clip_224", SMALL),
    "pe_core": ("vit_pe_core_base_patch16_224", {**SMALL, "attn_pool_num_heads": 2}),
    "pe_core_gigantic": ("vit_pe_core_gigantic_patch14_448", {**SMALL, "attn_pool_num_heads": 2}),
    "convnext": ("convnext_base", {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}),
    "swin": (
        "swin_base_patch4_window7_224",
        {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 3, 4), "img_size": 64, "window_size": 2},
    ),
    "fastvit": ("fastvit_mci0", {"layers": (1, 1, 1, 1), "embed_dims": (16, 16, 32, 32)}),
    # not in the zoo
    "registers": ("vit_medium_patch16_reg4_gap_256", SMALL),
    "distilled": ("deit_small_distilled_patch16_224", SMALL),
    "residual_post_norm": ("vit_base_patch16_rpn_224", SMALL),
    "parallel": ("vit_small_patch16_18x2_224", SMALL),
    "relpos_patches": ("vit_relpos_medium_patch16_224", {**SMALL, "rel_pos_dim": 16}),
    "relpos_shared": ("vit_relpos_base_patch16_clsgap_224", {**SMALL, "rel_pos_dim": 16, "shared_rel_pos": True}),
    "relpos_smallest": (
        "vit_relpos_medium_patch16_cls_224",
        {**SMALL, "rel_pos_dim": 16, "num_heads": 1, "img_size": 8},
    ),
    "rope_registers": ("vit_medium_patch16_rope_reg1_gap_256", SMALL),
}


def register_trunk(name: str, create: Callable[..., nn.Module]) -> None:
    """Makes `timm.create_model("vilt_<name>")` build a small trunk, as open_clip's `TimmModel` asks for it by name."""

    def entrypoint(pretrained: bool = False, **arguments) -> nn.Module:
        return create(**arguments)

    entrypoint.__name__ = f"vilt_{name}"
    timm.models.register_model(entrypoint)


def smaller(timm_name: str, changes: dict) -> Callable[..., nn.Module]:
    return lambda **arguments: timm.create_model(timm_name, **{**arguments, **changes})


def mobileclip_b(**arguments) -> nn.Module:
    """`vit_base_mci_224`, whose own function fixes the stem's channels."""
    stem = ConvStem(channels=(12, 12, 48), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0, act_layer=nn.GELU)
    arguments = {**arguments, **SMALL_WITH_STEM, "no_embed_class": True}
    return _create_vision_transformer_hybrid(
        "vit_base_mci_224", backbone=stem, embed_args={"proj": False}, pretrained=False, **arguments
    )


for trunk_name, (timm_name, changes) in TRUNKS.items():
    register_trunk(trunk_name, smaller(timm_name, changes))
register_trunk("mobileclip_b", mobileclip_b)

# Special ids: roberta and its kin have <s> 0, <pad> 1, </s> 2; mT5 has <pad> 0, </s> 1.
BERT_LIKE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
HUGGING_FACE: dict[str, PretrainedConfig] = {
    "roberta": RobertaConfig(**BERT_LIKE, max_position_embeddings=34, type_vocab_size=1),
    "xlm-roberta": XLMRobertaConfig(**BERT_LIKE, max_position_embeddings=34, type_vocab_size=1),
    "bert": BertConfig(**BERT_LIKE, max_position_embeddings=32),
    "mt5": MT5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=16, d_ff=64, num_layers=4, num_heads=2, relative_attention_num_buckets=8
    ),
    "m2m_100": M2M100Config(
        vocab_size=VOCABULARY,
        d_model=32,
        encoder_layers=4,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        max_position_embeddings=32,
    ),
}

DECODER = {"width": 32, "layers": 2, "heads": 2, "context_length": CONTEXT_LENGTH - 1, "vocab_size": VOCABULARY}
COCA_TEXT = {"context_length": CONTEXT_LENGTH - 1, "embed_cls": True, "output_tokens": True}
SIGLIP_TEXT = {"no_causal_mask": True, "pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6}}


@dataclass
class Member:
    """One shrunken model.

    Attributes:
        stands_for: The models of the zoo, and the special features of their towers.
        vision: Differences from `architectures.VISION`, or `timm` (a trunk's name) with open_clip's own `timm_` fields.
        text: Differences from `architectures.TEXT`, or `hf` (a config's name) with open_clip's own `hf_` fields.
        custom_text: Whether the model is a `CustomTextCLIP`; a member with a decoder is a `CoCa`.
        tokens: The start token (None: the tokenizer sets none), end token and padding of the model's tokenizer.
        arguments: Arguments of the model itself.
    """

    stands_for: str
    vision: dict = field(default_factory=dict)
    text: dict = field(default_factory=dict)
    custom_text: bool = False
    tokens: tuple[int | None, int, int] = CLIP_TOKENS
    decoder: dict | None = None
    arguments: dict = field(default_factory=dict)


def timm_vision(trunk: str, pool: str, proj: str | None) -> dict:
    return {"timm": trunk, "timm_pool": pool, "timm_proj": proj}


MEMBERS: dict[str, Member] = {
    # open_clip's own vision tower
    "vit": Member("ViT-B-16 and 23 more: class token, ln_pre; causal text, argmax pooling"),
    "vit_quick_gelu": Member("the -quickgelu ViTs", arguments={"quick_gelu": True}),
    "vit_layer_scale": Member("ViT-M-16-alt: layer scale in the vision tower", {"ls_init_value": 0.1}),
    "worldwide_xlm": Member(
        "ViT-H-14-worldwide, ViT-bigG-14-worldwide: eos pooling of id 2",
        text={"pool_type": "eos", "eos_id": 2, "pad_id": 1},
        tokens=(0, 2, 1),
    ),
    "worldwide_mt5": Member(
        "ViT-L-14-worldwide: eos pooling of id 1, a tokenizer without start token",
        text={"pool_type": "eos", "eos_id": 1},
        tokens=(None, 1, 0),
    ),
    "clipa": Member(
        "ViT-L-14-CLIPA and 5 more: mean pooling, the norm after it, no ln_pre; no mask, last pooling, a plain CLIP",
        {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
        {"no_causal_mask": True, "pool_type": "last"},
        tokens=(98, 0, 0),
    ),
    "coca": Member(
        "coca_ViT-B-32, coca_ViT-L-14: attention pooling, class embedding at the text's end, caption decoder",
        {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 5, "output_tokens": True},
        COCA_TEXT,
        decoder=DECODER,
        arguments={"embed_dim": 32},
    ),
    "coca_base": Member(
        "coca_base: class token pooling, patch tokens to the decoder",
        {"width": 32, "output_tokens": True},
        COCA_TEXT,
        decoder=DECODER,
    ),
    # timm's VisionTransformer
    "siglip": Member(
        "ViT-B-16-SigLIP and 9 more: attention pooling, no class token; no mask, last pooling, projection with bias",
        timm_vision("siglip", "map", "none"),
        SIGLIP_TEXT,
        custom_text=True,
        tokens=(None, 1, 1),
        arguments={"embed_dim": 48, "init_logit_bias": -10},
    ),
    "siglip2": Member(
        "ViT-SO400M-16-SigLIP2-256, ViT-gopt-16-SigLIP2-256 and 13 more: tanh GELU, padding unlike the end token",
        timm_vision("siglip_tanh", "map", "none"),
        {**SIGLIP_TEXT, "act_kwargs": {"approximate": "tanh"}},
        custom_text=True,
        tokens=(None, 1, 0),
        arguments={"embed_dim": 48, "init_logit_bias": -10},
    ),
    "siglip_i18n": Member(
        "ViT-SO400M-16-SigLIP-i18n-256: no text projection",
        timm_vision("siglip_tanh", "map", "none"),
        {**SIGLIP_TEXT, "proj_type": "none", "proj_bias": False, "width": 48, "heads": 3},
        custom_text=True,
        tokens=(None, 1, 1),
        arguments={"embed_dim": 48, "init_logit_bias": -10},
    ),
    "vitamin": Member(
        "ViTamin-S, -B, -L, -L2: convolutional stem, GeGLU blocks, mean pooling without class token",
        timm_vision("vitamin", "", "linear"),
        custom_text=True,
    ),
    "vitamin_xlarge": Member(
        "ViTamin-XL: the same without position embedding",
        timm_vision("vitamin_xlarge", "", "linear"),
        custom_text=True,
    ),
    "mobileclip_b": Member(
        "MobileCLIP-B, MobileCLIP2-B: convolutional stem, position embedding of patches only; causal text",
        timm_vision("mobileclip_b", "token", None),
        custom_text=True,
    ),
    "mobileclip2_large": Member(
        "MobileCLIP2-L-14: norm_pre; no mask, argmax pooling",
        timm_vision("clip_large", "token", None),
        {"no_causal_mask": True},
        custom_text=True,
    ),
    "gap": Member(
        "vit_medium_patch16_gap_256: mean pooling, no class token, layer scale, the norm before pooling",
        timm_vision("gap", "", "linear"),
    ),
    # timm's other transformers
    "relpos": Member(
        "vit_relpos_medium_patch16_cls_224: relative position bias in each block, class token",
        timm_vision("relpos_cls", "", "linear"),
    ),
    "eva01": Member(
        "EVA01-g-14, EVA01-g-14-plus: fused qkv, bias of queries and values only",
        timm_vision("eva01", "token", None),
        custom_text=True,
    ),
    "eva02": Member(
        "EVA02-B-16, EVA02-L-14: rotary embedding, SwiGLU, separate q, k and v, inner norms",
        timm_vision("eva02", "token", None),
        custom_text=True,
    ),
    "eva02_enormous": Member(
        "EVA02-E-14, EVA02-E-14-plus: norms after attention and MLP",
        timm_vision("eva02_enormous", "token", None),
        custom_text=True,
    ),
    "pe_core": Member(
        "PE-Core-B-16 and 3 more: rope attention, norm_pre, attention pooling over class token and patches",
        timm_vision("pe_core", "map", None),
        custom_text=True,
    ),
    "pe_core_gigantic": Member(
        "PE-Core-bigG-14-448: the same without class token",
        timm_vision("pe_core_gigantic", "map", None),
        custom_text=True,
    ),
    # Hugging Face text towers
    "roberta": Member(
        "roberta-ViT-B-32: mean pooling over words and special tokens, two-layer projection",
        text={"hf": "roberta", "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"},
        custom_text=True,
        tokens=(0, 2, 1),
    ),
    "xlm_roberta": Member(
        "xlm-roberta-base-ViT-B-32, xlm-roberta-large-ViT-H-14",
        text={"hf": "xlm-roberta", "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"},
        custom_text=True,
        tokens=(0, 2, 1),
    ),
    "mt5": Member(
        "mt5-base-ViT-B-32, mt5-xl-ViT-H-14: relative position bias from the first block on, no start token",
        text={"hf": "mt5", "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"},
        custom_text=True,
        tokens=(None, 1, 0),
    ),
    "nllb": Member(
        "nllb-clip-base, nllb-clip-large: first-token pooling, sinusoidal positions, scaled word embeddings",
        text={"hf": "m2m_100", "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
        custom_text=True,
        tokens=(LANGUAGE, 2, 1),
    ),
    "nllb_siglip": Member(
        "nllb-clip-base-siglip, nllb-clip-large-siglip: the same beside SigLIP's vision tower",
        timm_vision("siglip", "map", "none"),
        {"hf": "m2m_100", "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
        custom_text=True,
        tokens=(LANGUAGE, 2, 1),
        arguments={"embed_dim": 48, "init_logit_bias": -10},
    ),
    "coca_roberta": Member(
        "coca_roberta-ViT-B-32: a Hugging Face tower whose tokens a caption decoder reads",
        {"width": 32, "output_tokens": True},
        {"hf": "roberta", "hf_pooler_type": "mean_pooler", "hf_proj_type": "linear", "output_tokens": True},
        tokens=(0, 2, 1),
        decoder=DECODER,
        arguments={"pad_id": 1},
    ),
}

# Settings that the classes of the towers allow, but no model of the zoo has.
CUSTOM_BLOCK = {"qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "scale_attn": True, "scale_fc": True}
BEYOND_THE_ZOO: dict[str, Member] = {
    "custom_blocks": Member("every option of CustomResidualAttentionBlock", CUSTOM_BLOCK, CUSTOM_BLOCK),
    **{f"custom_{option}": Member(option, {option: True}, {option: True}) for option in CUSTOM_BLOCK},
    "custom_without_mask": Member(
        "custom blocks without a mask", CUSTOM_BLOCK, {**CUSTOM_BLOCK, "no_causal_mask": True}, custom_text=True
    ),
    "coca_without_class": Member(
        "CoCa that pools the end token",
        {"width": 32, "output_tokens": True},
        {"context_length": CONTEXT_LENGTH - 1, "output_tokens": True},
        decoder=DECODER,
    ),
    "coca_custom": Member(
        "custom blocks under CoCa's mask",
        {"width": 32, "output_tokens": True, **CUSTOM_BLOCK},
        {**COCA_TEXT, **CUSTOM_BLOCK},
        decoder=DECODER,
    ),
    "vision_no_pool": Member("all tokens of the vision tower", {"pool_type": "none"}),
    "text_first_without_mask": Member(
        "first-token pooling", text={"pool_type": "first", "no_causal_mask": True}, custom_text=True
    ),
    "text_first_causal": Member(
        "first-token pooling under a mask, which prompts cannot reach", text={"pool_type": "first"}, custom_text=True
    ),
    "text_eos_without_mask": Member(
        "eos pooling without a mask",
        text={"pool_type": "eos", "eos_id": 2, "no_causal_mask": True},
        custom_text=True,
        tokens=(98, 2, 0),
    ),
    "text_last_causal": Member("last pooling under a mask", text={"pool_type": "last"}, custom_text=True),
    "text_no_pool_causal": Member("all text tokens", text={"pool_type": "none"}, custom_text=True),
    "text_no_pool_without_mask": Member(
        "all text tokens, no mask", text={"pool_type": "none", "no_causal_mask": True}, custom_text=True
    ),
    "registers": Member("register tokens", timm_vision("registers", "", "linear")),
    "distilled": Member("DeiT's distillation token, pooled", timm_vision("distilled", "token", "linear")),
    "timm_max_pool": Member("the maximum over patches", timm_vision("siglip", "max", "mlp")),
    "residual_post_norm": Member("timm's ResPostBlock", timm_vision("residual_post_norm", "", "linear")),
    "parallel": Member("timm's ParallelThingsBlock", timm_vision("parallel", "", "linear")),
    "relpos_patches": Member("relative positions without class token", timm_vision("relpos_patches", "", "linear")),
    "relpos_shared": Member("one relative position bias for all blocks", timm_vision("relpos_shared", "", "linear")),
    "relpos_smallest": Member(
        "relative positions of two tokens, one head", timm_vision("relpos_smallest", "", "linear")
    ),
    "rope_registers": Member("register tokens beside rotary embeddings", timm_vision("rope_registers", "", "linear")),
    "bert_cls": Member(
        "a pooler layer on the first token",
        text={"hf": "bert", "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
        custom_text=True,
    ),
    "xlm_roberta_cls": Member(
        "a pooler layer on the first token, no projection",
        text={"hf": "xlm-roberta", "hf_pooler_type": "cls_pooler", "hf_proj_type": None},
        custom_text=True,
        tokens=(0, 2, 1),
        arguments={"embed_dim": 32},
    ),
    "roberta_cls_last_hidden_state": Member(
        "the first token itself",
        text={"hf": "roberta", "hf_pooler_type": "cls_last_hidden_state_pooler", "hf_proj_type": "linear"},
        custom_text=True,
        tokens=(0, 2, 1),
    ),
}

# Models without a ViT: prompts go into their text tower only.
WITHOUT_VIT: dict[str, Member] = {
    "resnet": Member(
        "the 10 RN models",
        {"layers": (1, 1, 1, 1), "width": 8, "head_width": 16, "image_size": 32, "patch_size": None},
    ),
    "convnext": Member("convnext_base and 8 more", timm_vision("convnext", "", "linear") | {"image_size": 64}),
    "convnext_mlp": Member(
        "convnext_large_d, convnext_large_d_320: two-layer projection",
        timm_vision("convnext", "", "mlp") | {"image_size": 64},
    ),
    "swin": Member("swin_base_patch4_window7_224", timm_vision("swin", "", "linear") | {"image_size": 64}),
    "fastvit": Member(
        "MobileCLIP-S1, -S2, MobileCLIP2-S0, -S2, -S3, -S4: no mask, argmax pooling",
        timm_vision("fastvit", "avg", None) | {"image_size": 64},
        {"no_causal_mask": True},
        custom_text=True,
    ),
}

# open_clip 3.3.0 builds this one, but its attention multiplies four-dimensional tensors by `torch.bmm`.
REFUSED: dict[str, Member] = {
    "scaled_cosine": Member("scaled cosine attention", {"scaled_cosine_attn": True}, {"scaled_cosine_attn": True}),
}

EVERY = {**MEMBERS, **BEYOND_THE_ZOO, **WITHOUT_VIT, **REFUSED}


def build(name: str, seed: int = 0, sizes: dict[str, dict] | None = None) -> nn.Module:
    """Builds the named model in eval mode, with the same weights for the same seed.

    `sizes` are further settings of open_clip's own "vision" and "text" towers, such as {"text": {"layers": 2}}.
    """
    member = EVERY[name]
    vision, text, arguments = dict(member.vision), dict(member.text), {"embed_dim": EMBEDDING, **member.arguments}
    for tower, chosen, own in (("vision", vision, "timm"), ("text", text, "hf")):
        if own not in chosen:
            chosen |= (sizes or {}).get(tower, {})
    if "timm" in vision:
        trunk = vision.pop("timm")
        size = TRUNKS[trunk][1].get("img_size", 64) if trunk in TRUNKS else SMALL_WITH_STEM["img_size"]
        vision = {"timm_model_name": f"vilt_{trunk}", "image_size": size, **vision}
    else:
        vision = {**VISION, **vision}

    with tempfile.TemporaryDirectory() as folder:
        if "hf" in text:
            HUGGING_FACE[text.pop("hf")].save_pretrained(folder)
            text = {"hf_model_name": folder, "hf_model_pretrained": False, "vocab_size": VOCABULARY, **text}
        else:
            text = {**TEXT, **text}
        configs = {"vision_cfg": CLIPVisionCfg(**vision), "text_cfg": CLIPTextCfg(**text)}
        if member.decoder is not None:
            clip = CoCa(multimodal_cfg=member.decoder, **configs, **arguments)
        else:
            clip = (CustomTextCLIP if member.custom_text else CLIP)(**configs, **arguments)
    randomise(clip, seed)
    return clip.eval()


def text_ids(name: str, lengths: list[int], columns: int | None = None, seed: int = 0) -> Tensor:
    """Token ids as the named model's tokenizer would give them for names of the given numbers of tokens: (C, columns).

    All columns of the tower if not said, 24 where a Hugging Face tower sets no limit of its own.
    """
    member = EVERY[name]
    start, end, padding = member.tokens
    if columns is None:
        columns = CONTEXT_LENGTH if "hf" in member.text else {**TEXT, **member.text}["context_length"]
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(lengths), columns), padding)
    for row, length in zip(ids, lengths, strict=True):
        words = torch.randint(3, LANGUAGE, (length,), generator=generator)
        tokens = torch.cat(
            [torch.tensor([] if start is None else [start], dtype=torch.long), words, torch.tensor([end])]
        )
        row[: len(tokens)] = tokens
    return ids
