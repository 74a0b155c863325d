"""What the keys of a checkpoint mean, for the code that MaPLe, CoOp, KgCoOp, IVLP, ViFi-CLIP and VPT have published.

Layers count from 1: block i of theirs is layer i + 1, and `compound_prompts_text.i` enters their block i + 1.

Shapes: n prompt vectors, C classes, L token columns, d_t and d_v the widths of the towers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

LEARNER = r"(?:prompt_learner\.)?"  # CoOp and KgCoOp save the learner alone
# What a key means, and the layer of the tensor without a number i, or with 0.
KEYS = [
    (LEARNER + r"ctx", "text", 1),
    (LEARNER + r"compound_prompts_text\.(?P<i>\d+)", "coupled", 2),
    (r"text_encoder\.transformer\.resblocks\.(?P<i>\d+)\.VPT_shallow", "text", 1),
    (r"image_encoder\.VPT", "vision", 1),
    (r"image_encoder\.transformer\.resblocks\.(?P<i>\d+)\.VPT_shallow", "vision", 1),
    (LEARNER + r"proj\.(?P<part>weight|bias)", "map", 1),
    (LEARNER + r"compound_prompt_projections\.(?P<i>\d+)\.(?P<part>weight|bias)", "map", 2),
    (LEARNER + r"token_suffix", "suffix", 0),
    # More of the class list, and what KgCoOp does not use.
    (LEARNER + r"(token_prefix|token_midfix|complete_text_embeddings|bias_vectors)", "ignored", 0),
    (LEARNER + r"meta_net\.linear1\.(weight|bias)", "ignored", 0),
    (LEARNER + r"meta_net\.linear2\.(weight|bias)", "image-conditioned", 0),
    (r"(image_encoder|text_encoder)\..+|logit_scale", "frozen", 0),
]


@dataclass
class Findings:
    """What the keys of a checkpoint mean."""

    text: dict[int, Tensor] = field(default_factory=dict)  # layer: (n, d_t)
    vision: dict[int, Tensor] = field(default_factory=dict)  # layer: (n, d_v)
    maps: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # layer: weight (d_v, d_t), bias (d_v,)
    coupled: bool = False  # whether the text prompts are MaPLe's, which has a map for each
    frozen: dict[str, Tensor] = field(default_factory=dict)  # weights of CLIP, under open_clip's names
    suffix: Tensor | None = None  # (C, L, d_t), token embeddings of what stands after the prompts


def sort_tensors(tensors: dict[str, Tensor], base: Any, path: Any) -> Findings:
    """Sorts the tensors of a checkpoint by what their keys mean. Keys of no known method are a ValueError."""
    found = Findings()
    unknown = []
    for key, tensor in tensors.items():
        meaning, layer, part = _recognise(key)
        if meaning in ("text", "vision", "coupled"):
            prompts = found.vision if meaning == "vision" else found.text
            if layer in prompts:
                raise ValueError(f"{path} holds two prompts of one tower and layer, {key} is the second: expected one")
            prompts[layer] = tensor
            found.coupled |= meaning == "coupled"
        elif meaning == "map":
            found.maps.setdefault(layer, {})[part] = tensor
        elif meaning == "suffix":
            found.suffix = tensor
        elif meaning == "frozen":
            found.frozen[_open_clip_name(key, base)] = tensor
        elif meaning == "image-conditioned":
            raise ValueError(f"{path} is of CoCoOp, whose prompts depend on the image: an adapter's do not")
        elif meaning == "unknown":
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"{path} has tensors that belong to no known method, {len(unknown)} in all: {some(unknown)}. Known are "
            "MaPLe, CoOp, KgCoOp, IVLP, ViFi-CLIP's prompts and VPT"
        )
    return found


def _recognise(key: str) -> tuple[str, int, str]:
    """The meaning of a key, its layer, and which part of a map it is."""
    for pattern, meaning, first in KEYS:
        if match := re.fullmatch(pattern, key):
            groups = match.groupdict()
            return meaning, first + int(groups.get("i") or 0), groups.get("part") or ""
    return "unknown", 0, ""


def _open_clip_name(key: str, base: Any) -> str:
    """Their CLIP's parts have the same names in open_clip, behind another prefix."""
    key = key.replace("image_encoder.", "visual.", 1)
    return key.replace("text_encoder.", "text." if hasattr(base, "text") else "", 1)


def some(names: list[str]) -> str:
    """The first few names, for an error."""
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
