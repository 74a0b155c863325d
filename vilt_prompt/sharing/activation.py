"""The activation of a base model, GELU or QuickGELU. No tensor shows it, and the wrong one silently costs accuracy.

open_clip builds "ViT-B-16" with GELU even for the tag "openai", whose weights need QuickGELU, and only warns.
"""

from __future__ import annotations

from typing import Any

import open_clip
from torch import nn

from vilt_prompt.towers.families import text_tower, vision_tower
from vilt_prompt.towers.open_clip_text import OpenClipTextTower
from vilt_prompt.towers.open_clip_vision import OpenClipVisionTower

QUICK_GELU = "quick_gelu"
GELU = "gelu"
GELU_TANH = "gelu_tanh"
WRITTEN = {QUICK_GELU: "QuickGELU", GELU: "GELU", GELU_TANH: "GELU (tanh)"}
_QUICK_NAME = "-quickgelu"  # the end of the names under which open_clip lists architectures with QuickGELU


def activation(tower: nn.Module) -> str | None:
    """The kind of GELU in a tower's blocks, or None if the tower has another activation."""
    for module in tower.modules():
        name = type(module).__name__.lower()
        if "gelu" in name and not any(module.children()):
            if "quick" in name:
                return QUICK_GELU
            is_tanh = "tanh" in name or "new" in name or getattr(module, "approximate", "none") == "tanh"
            return GELU_TANH if is_tanh else GELU
    return None


def has_quick_gelu(model: nn.Module) -> bool | None:
    """Whether open_clip's own towers in a model have QuickGELU rather than GELU. None: the model has no such tower."""
    # open_clip's setting quick_gelu has no effect on timm's and Hugging Face's towers.
    towers = (text_tower(model), vision_tower(model))
    modules = [each.stands_for[-1] for each in towers if isinstance(each, OpenClipTextTower | OpenClipVisionTower)]
    return all(activation(module) == QUICK_GELU for module in modules) if modules else None


def check_activation(model: nn.Module, base_model: str | None, base_pretrained: str | None) -> None:
    """Check that a model has the activation that its weights were trained with.

    Args:
        model: An open_clip model.
        base_model: open_clip's name of the model. None: nothing is checked.
        base_pretrained: open_clip's tag of the weights. None, or a file: nothing is checked.

    Raises:
        ValueError: If the activations differ. The message names the model that fits.
    """
    is_quick = has_quick_gelu(model)
    if is_quick is not None:
        _check_activation(is_quick, base_model, base_pretrained)


def check_activation_by_name(base_model: str, base_pretrained: str | None, force_quick_gelu: bool = False) -> None:
    """Check the activation of a model that open_clip is going to build, before it downloads anything.

    Args:
        base_model: A name that `open_clip.create_model` accepts.
        base_pretrained: A tag, a file of weights, or None.
        force_quick_gelu: The argument of `open_clip.create_model`.

    Raises:
        ValueError: If open_clip would build the model with another activation than its weights need.
    """
    config = _model_config(base_model)
    if config is not None:
        _check_activation(force_quick_gelu or config.get("quick_gelu", False), base_model, base_pretrained)


def _check_activation(is_quick: bool, base_model: str | None, base_pretrained: str | None) -> None:
    if not base_model or not base_pretrained:
        return
    name = base_model.replace("/", "-")  # open_clip takes "ViT-B/16" too
    stem = name.removesuffix(_QUICK_NAME)
    tag = open_clip.get_pretrained_cfg(name, base_pretrained)
    # Under names with QuickGELU, open_clip lists only tags that need it.
    tag = tag or open_clip.get_pretrained_cfg(stem, base_pretrained)
    if not tag:
        return
    # Some architectures, such as roberta-ViT-B-32, have QuickGELU in their config, but their tags do not mention it.
    config = _model_config(stem) or {}
    needs_quick = bool(tag.get("quick_gelu") or config.get("quick_gelu"))
    if is_quick == needs_quick:
        return
    needed, given = (WRITTEN[QUICK_GELU if quick else GELU] for quick in (needs_quick, is_quick))
    fitting = stem
    way_out = "without force_quick_gelu"
    if needs_quick and not config.get("quick_gelu"):
        way_out = "or pass force_quick_gelu=True to open_clip"
        fitting = stem + _QUICK_NAME if _model_config(stem + _QUICK_NAME) else stem
    raise ValueError(
        f"the weights {base_pretrained!r} of {base_model!r} were trained with {needed}, but the model has {given}: "
        f"its features would be off. Create {fitting!r} {way_out}, and pass this name as base_model"
    )


def _model_config(name: str) -> dict[str, Any] | None:
    """open_clip's own config of an architecture. None for "hf-hub:" and "local-dir:" names, which have their own."""
    name = name.replace("/", "-")
    return open_clip.get_model_config(name) if name in open_clip.list_models() else None
