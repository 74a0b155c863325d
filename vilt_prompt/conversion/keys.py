"""The meaning of checkpoint keys in the published code of MaPLe, CoOp, KgCoOp, IVLP, ViFi-CLIP and VPT.

Here layers count from 1. In that code blocks count from 0, so its block i is our layer i + 1. MaPLe's
`compound_prompts_text.i` enters block i + 1, which is layer i + 2.

Shapes: n prompt vectors, C classes, L token columns, d_t and d_v the widths of the towers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

LEARNER = r"(?:prompt_learner\.)?"  # CoOp and KgCoOp save only the prompt learner, without this prefix
# A pattern for the key, the meaning of the tensor, and its layer if the key has i = 0 or no i.
KEYS = [
    (LEARNER + r"ctx", "text", 1),
    (LEARNER + r"compound_prompts_text\.(?P<i>\d+)", "coupled", 2),
    (r"text_encoder\.transformer\.resblocks\.(?P<i>\d+)\.VPT_shallow", "text", 1),
    (r"image_encoder\.VPT", "vision", 1),
    (r"image_encoder\.transformer\.resblocks\.(?P<i>\d+)\.VPT_shallow", "vision", 1),
    (LEARNER + r"proj\.(?P<part>weight|bias)", "map", 1),
    (LEARNER + r"compound_prompt_projections\.(?P<i>\d+)\.(?P<part>weight|bias)", "map", 2),
    (LEARNER + r"token_suffix", "suffix", 0),
    # Other tensors that depend on the class names, and tensors that KgCoOp saves but does not use.
    (LEARNER + r"(token_prefix|token_midfix|complete_text_embeddings|bias_vectors)", "ignored", 0),
    (LEARNER + r"meta_net\.linear1\.(weight|bias)", "ignored", 0),
    (LEARNER + r"meta_net\.linear2\.(weight|bias)", "image-conditioned", 0),
    (r"(image_encoder|text_encoder)\..+|logit_scale", "frozen", 0),
]


@dataclass
class Findings:
    """The tensors of a checkpoint, sorted by meaning.

    Attributes:
        text: The text prompt of each layer, (n, d_t).
        vision: The visual prompt of each layer, (n, d_v).
        maps: The map of each layer: its weight (d_v, d_t) and bias (d_v,).
        coupled: Whether the text prompts are MaPLe's, which has a map for each of them.
        frozen: Frozen weights of CLIP, under open_clip's names.
        suffix: (C, L, d_t), the token embeddings after the prompts: each class name, the end token and padding.
    """

    text: dict[int, Tensor] = field(default_factory=dict)
    vision: dict[int, Tensor] = field(default_factory=dict)
    maps: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    coupled: bool = False
    frozen: dict[str, Tensor] = field(default_factory=dict)
    suffix: Tensor | None = None


def sort_tensors(tensors: dict[str, Tensor], base: nn.Module, path: Path) -> Findings:
    """Sort the tensors of a checkpoint by meaning.

    Args:
        tensors: The tensors by key.
        base: The open_clip model.
        path: The checkpoint, for messages.

    Raises:
        ValueError: If a key belongs to no known method, or to CoCoOp, or if a layer has two prompts.
    """
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
            raise ValueError(
                f"{path} is a checkpoint of CoCoOp, whose prompts depend on the image: an adapter's do not"
            )
        elif meaning == "unknown":
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"{path} has tensors that belong to no known method, {len(unknown)} in all: {some(unknown)}. Known are "
            "MaPLe, CoOp, KgCoOp, IVLP, ViFi-CLIP's prompts and VPT"
        )
    return found


def _recognise(key: str) -> tuple[str, int, str]:
    """Return the meaning of a key, its layer, and "weight" or "bias" for a map."""
    for pattern, meaning, first in KEYS:
        if match := re.fullmatch(pattern, key):
            groups = match.groupdict()
            return meaning, first + int(groups.get("i") or 0), groups.get("part") or ""
    return "unknown", 0, ""


def _open_clip_name(key: str, base: nn.Module) -> str:
    """Translate a key of OpenAI's CLIP to open_clip's name, which differs only in its prefix."""
    key = key.replace("image_encoder.", "visual.", 1)
    return key.replace("text_encoder.", "text." if hasattr(base, "text") else "", 1)


def some(names: list[str]) -> str:
    """List the first few names, for a message."""
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
