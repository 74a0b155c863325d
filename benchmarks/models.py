"""The open_clip models that are measured, with random weights: nothing is downloaded."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import open_clip
import torch
from torch import nn

MODELS = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
# For trying the harness itself: its figures mean nothing.
TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 3, "width": 32, "head_width": 16, "patch_size": 4},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
# ViT-B/16 with all its layers and a narrow width: for counts of operations, which do not depend on the width.
NARROW = "narrow-ViT-B-16"
N_CTX = 10


class Sizes(NamedTuple):
    """What work depends on. Prompts are fresh in layers 1..depth; text leads in layers 1..K."""

    text_layers: int
    text_width: int
    vision_layers: int
    vision_width: int
    image_size: int
    patch_size: int
    embed_dim: int
    n_ctx: int
    depth: int
    K: int

    @property
    def patches(self) -> int:
        """Patch tokens of one frame."""
        return (self.image_size // self.patch_size) ** 2


def configuration(model: str) -> dict[str, Any]:
    """open_clip's configuration of a model; "tiny" and "narrow-ViT-B-16" are ours.

    Raises:
        ValueError: If open_clip does not know the model.
    """
    if model == NARROW:
        found = open_clip.get_model_config("ViT-B-16")
        found["vision_cfg"] |= {"width": 64, "head_width": 32}
        found["text_cfg"] |= {"width": 64, "heads": 2}
        return found
    found = TINY if model == "tiny" else open_clip.get_model_config(model)
    if found is None:
        raise ValueError(f"open_clip has no model {model!r}: choose one of {', '.join((*MODELS, 'tiny'))}")
    return found


def sizes(model: str) -> Sizes:
    """The sizes of a model, with the prompts of `vilt_prompt.wrap(model, K, N_CTX)`."""
    found = configuration(model)
    vision, text = found["vision_cfg"], found["text_cfg"]
    depth = min(text["layers"], vision["layers"])
    return Sizes(
        text_layers=text["layers"],
        text_width=text["width"],
        vision_layers=vision["layers"],
        vision_width=vision["width"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        embed_dim=found["embed_dim"],
        n_ctx=N_CTX,
        depth=depth,
        K=depth // 2,
    )


def build(model: str, device: str) -> nn.Module:
    """The model in eval mode and frozen, under a fixed seed."""
    torch.manual_seed(0)
    if model in ("tiny", NARROW):
        built = open_clip.CLIP(**copy.deepcopy(configuration(model)))
    else:
        built = open_clip.create_model(model)
    return built.to(device).eval().requires_grad_(False)
