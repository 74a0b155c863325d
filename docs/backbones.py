"""Write `docs/backbones.md`: the library's support for every model of open_clip's zoo. Run `python -m docs.backbones`.

The models are built on the meta device, where they have shapes and no values, so nothing is downloaded. The configs of
Hugging Face's text encoders, which open_clip would fetch, are written down here.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from peft import PeftModel
from torch import nn
from transformers import M2M100Config, MT5Config, PretrainedConfig, RobertaConfig, XLMRobertaConfig

import vilt_prompt
from vilt_prompt.towers.blocks import Block
from vilt_prompt.towers.families import text_tower, vision_tower

PAGE = Path(__file__).with_suffix(".md")
K, N_CTX = 6, 10


def roberta(kind: type[PretrainedConfig], vocabulary: int, width: int, layers: int) -> PretrainedConfig:
    """RoBERTa's family, whose heads have 64 channels and whose MLPs are four times as wide as the tokens."""
    return kind(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )


def mt5(width: int, mlp: int, layers: int, heads: int) -> PretrainedConfig:
    """mT5's family."""
    return MT5Config(
        vocab_size=250_112,
        d_model=width,
        d_kv=64,
        d_ff=mlp,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
    )


def nllb(layers: int, mlp: int) -> PretrainedConfig:
    """The distilled models of NLLB."""
    return M2M100Config(
        vocab_size=256_206,
        d_model=1024,
        max_position_embeddings=1024,
        encoder_layers=layers,
        encoder_attention_heads=16,
        encoder_ffn_dim=mlp,
        decoder_layers=layers,
        decoder_attention_heads=16,
        decoder_ffn_dim=mlp,
    )


# As `config.json` of these repositories has them.
HUGGING_FACE: dict[str, PretrainedConfig] = {
    "roberta-base": roberta(RobertaConfig, 50_265, 768, 12),
    "xlm-roberta-base": roberta(XLMRobertaConfig, 250_002, 768, 12),
    "xlm-roberta-large": roberta(XLMRobertaConfig, 250_002, 1024, 24),
    "google/mt5-base": mt5(768, 2048, 12, 12),
    "google/mt5-xl": mt5(2048, 5120, 24, 32),
    "facebook/nllb-200-distilled-600M": nllb(12, 4096),
    "facebook/nllb-200-distilled-1.3B": nllb(24, 8192),
}


def build(name: str) -> nn.Module:
    """A model of open_clip's zoo in its real size, on the meta device, in eval mode."""
    text_cfg = open_clip.get_model_config(name)["text_cfg"]
    with tempfile.TemporaryDirectory() as folder, torch.device("meta"):
        if "hf_model_name" not in text_cfg:
            return open_clip.create_model(name, device="meta").eval()
        HUGGING_FACE[text_cfg["hf_model_name"]].save_pretrained(folder)
        text_cfg = {**text_cfg, "hf_model_name": folder, "hf_model_pretrained": False}
        return open_clip.create_model(name, device="meta", pretrained_hf=False, text_cfg=text_cfg).eval()


def wrap(model: nn.Module) -> PeftModel:
    """The model with ViLT's prompts, K clipped to the layers that both towers have; without a ViT, with CoOp's."""
    text, vision = text_tower(model), vision_tower(model)
    if vision is None:
        return vilt_prompt.wrap(model, n_ctx=N_CTX, method="coop")
    return vilt_prompt.wrap(model, K=min(K, text.layers, vision.layers), n_ctx=N_CTX)


class Row(NamedTuple):
    """One line of the table; "-" stands for an image tower that takes no prompts."""

    name: str
    family: str
    layers: str
    widths: str
    trainable: int
    megabytes: float
    keys: str


def row(name: str, model: PeftModel) -> Row:
    """The cells of the table for a wrapped model."""
    base = model.get_base_model()
    text, vision = text_tower(base), vision_tower(base)
    trainable, _ = model.get_nb_trainable_parameters()
    blocks = [*text.blocks, *([] if vision is None else vision.blocks)]
    return Row(
        name,
        f"{text.family}, {image_family(base)}",
        f"{text.layers} / {'-' if vision is None else vision.layers}",
        f"{text.width} / {'-' if vision is None else vision.width}",
        trainable,
        sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad) / 1e6,
        "yes" if all(isinstance(block, Block) for block in blocks) else "no",
    )


def image_family(model: Any) -> str:
    """The family of the image tower; for one that takes no prompts, its class."""
    vision = vision_tower(model)
    if vision is not None:
        return vision.family
    trunk = getattr(model.visual, "trunk", None)
    return f"open_clip {type(model.visual).__name__}" if trunk is None else f"timm {type(trunk).__name__}"


def page(rows: list[Row]) -> str:
    """The text of the page."""
    with_vit = [row for row in rows if not row.layers.endswith("-")]
    text_only = [row for row in rows if row.layers.endswith("-")]
    shallow = [row.name for row in with_vit if min(map(int, row.layers.split(" / "))) < K]
    clipped = f"here {', '.join(shallow)}" if shallow else "there is none here"
    return f"""# Backbones

The {len(rows)} models of open_clip {open_clip.__version__}, and the prompts that each of them gets. On the site, a field above the
table filters it.

- **trainable**: parameters of prompts and maps with K={K} and n_ctx={N_CTX}. For a model with fewer than {K} layers in one encoder
  ({clipped}) K is that number of layers.
- **MB**: their size in float32, in millions of bytes. The saved file has a few hundred bytes more.
- **keys**: "yes" if prompts whose outputs are discarded cost only keys and values in all layers of both encoders. Otherwise the
  prompts are full tokens, which gives the same features but is slower.
- **layers** and **widths**: of the text encoder / the image encoder. Layer i of one is paired with layer i of the other; the
  deeper encoder carries its prompts on after the last pair (`pairing="layer"`, see [the method](method.md)).
- **family**: the code of the library that runs the text encoder and the image encoder.

## {len(with_vit)} models with a ViT

`wrap(clip, K={K}, n_ctx={N_CTX})`.

{table(with_vit)}

## {len(text_only)} models without a ViT

Only text prompts: `wrap(clip, n_ctx={N_CTX}, method="coop")`. Other methods raise an error that says so.

{table(text_only)}
"""  # noqa: E501, for the page's own lines


def table(rows: list[Row]) -> str:
    """Rows as Markdown."""
    lines = [
        "| model | trainable | MB | keys | layers | widths | family (text, image) |",
        "|---|---:|---:|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r.name} | {r.trainable:,} | {r.megabytes:.2f} | {r.keys} | {r.layers} | {r.widths} | {r.family} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # open_clip warns that there are no weights
    PAGE.write_text(page([row(name, wrap(build(name))) for name in open_clip.list_models()]), encoding="utf-8")
