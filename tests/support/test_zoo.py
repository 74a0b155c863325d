"""Every model of open_clip's zoo has a shrunken member with the same kinds of parts."""

from __future__ import annotations

from functools import cache

import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, _build_vision_tower
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn

from tests.support.zoo import EVERY, MEMBERS, WITHOUT_VIT, build

HUGGING_FACE = {
    "roberta-base": "roberta",
    "xlm-roberta-base": "xlm-roberta",
    "xlm-roberta-large": "xlm-roberta",
    "google/mt5-base": "mt5",
    "google/mt5-xl": "mt5",
    "facebook/nllb-200-distilled-600M": "m2m_100",
    "facebook/nllb-200-distilled-1.3B": "m2m_100",
}

BY_TIMM = pytest.mark.needs("timm", "1.0.21", "building timm's encoders on the meta device")


def kind(module: nn.Module, path: str) -> str | None:
    """The class of a part, None where there is none."""
    for part in path.split("."):
        module = getattr(module, part, None)
    return None if module is None or isinstance(module, nn.Identity) else type(module).__name__


def vision_kind(visual: nn.Module) -> tuple:
    """What a vision tower is made of, without its sizes."""
    if isinstance(visual, VisionTransformer):
        block = visual.transformer.resblocks[0]
        parts = ("ln_pre", "attn_pool", "attn_pool_contrastive")
        settings = (visual.pool_type, visual.final_ln_after_pool, visual.output_tokens)
        return (type(visual), type(block), kind(block, "ls_1"), *settings, *(kind(visual, part) for part in parts))
    if not isinstance(visual, TimmModel):
        return (type(visual),)
    trunk = visual.trunk
    head = tuple((type(part), getattr(part, "bias", None) is not None) for part in visual.head)
    blocks = getattr(trunk, "blocks", None)
    if blocks is None:
        return (type(trunk), head)
    trunk_parts = ("patch_embed", "patch_embed.backbone", "cls_token", "reg_token", "pos_embed", "norm_pre", "norm")
    trunk_parts = (*trunk_parts, "fc_norm", "attn_pool", "rope", "shared_rel_pos", "head")
    block_parts = ("attn", "attn.qkv", "attn.q_proj", "attn.q_bias", "attn.q_norm", "attn.norm", "attn.rel_pos")
    block_parts = (*block_parts, "mlp", "mlp.norm", "mlp.act", "ls1", "gamma_1")
    return (
        type(trunk),
        type(blocks[0]),
        trunk.global_pool,
        getattr(trunk, "no_embed_class", None),
        head,
        *(kind(trunk, part) for part in trunk_parts),
        *(kind(blocks[0], part) for part in block_parts),
    )


def text_kind(text: CLIPTextCfg, model: str) -> tuple:
    """What a text tower is made of, without its sizes."""
    if text.hf_model_name:
        return (model, text.hf_model_name, text.hf_pooler_type, text.hf_proj_type, text.output_tokens)
    return (
        model,
        text.no_causal_mask,
        text.embed_cls,
        text.pool_type,
        text.eos_id if text.pool_type == "eos" else None,
        (text.proj_type, text.proj_bias),
        str(text.act_kwargs),
        str(text.norm_kwargs),
        text.ls_init_value is not None,
    )


@cache
def member_kinds() -> dict[str, tuple[tuple, tuple]]:
    kinds = {}
    for name in [*MEMBERS, *WITHOUT_VIT]:
        member = EVERY[name]
        text = CLIPTextCfg(
            **{"hf_model_name": member.text.get("hf"), **{k: v for k, v in member.text.items() if k != "hf"}}
        )
        model = "CoCa" if member.decoder else "CustomTextCLIP" if member.custom_text else "CLIP"
        kinds[name] = (vision_kind(build(name).visual), text_kind(text, model))
    return kinds


@cache
def timm_vision_kind(embed_dim: int, name: str, pool: str, proj: str | None) -> tuple:
    vision = CLIPVisionCfg(timm_model_name=name, timm_pool=pool, timm_proj=proj)
    with torch.device("meta"):
        return vision_kind(_build_vision_tower(embed_dim, vision))


def zoo_kinds(name: str) -> tuple[tuple, tuple]:
    config = open_clip.get_model_config(name)
    vision, text = CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"])
    if vision.timm_model_name:
        of_vision = timm_vision_kind(config["embed_dim"], vision.timm_model_name, vision.timm_pool, vision.timm_proj)
    else:
        with torch.device("meta"):
            of_vision = vision_kind(_build_vision_tower(config["embed_dim"], vision))
    custom_text = config.get("custom_text", False) or text.hf_model_name is not None
    model = "CoCa" if "multimodal_cfg" in config else "CustomTextCLIP" if custom_text else "CLIP"
    text.hf_model_name = HUGGING_FACE.get(text.hf_model_name, text.hf_model_name)
    return of_vision, text_kind(text, model)


def names() -> list:
    """The models of the zoo, those with timm's encoders marked."""
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return [
        pytest.param(name, marks=BY_TIMM) if config["vision_cfg"].get("timm_model_name") else name
        for name, config in configs.items()
    ]


@pytest.mark.parametrize("name", names())
def test_a_member_has_the_same_kinds_of_parts(name):
    of_vision, of_text = zoo_kinds(name)
    members = member_kinds()
    assert of_vision in [vision for vision, _ in members.values()]
    assert of_text in [text for _, text in members.values()]


@BY_TIMM
def test_every_member_stands_for_a_model_of_the_zoo():
    zoo = [zoo_kinds(name) for name in open_clip.list_models()]
    for name, (of_vision, of_text) in member_kinds().items():
        assert of_vision in [vision for vision, _ in zoo], name
        assert of_text in [text for _, text in zoo], name
