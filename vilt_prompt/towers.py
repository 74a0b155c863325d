"""The families of towers that take prompts. A new one is a file like `vision.py` or `text.py` and a line here."""

from __future__ import annotations

from typing import Any

from open_clip import CLIP, CustomTextCLIP
from torch import nn

from vilt_prompt.text import TextTower
from vilt_prompt.vision import VisionTower

MODELS = (CLIP, CustomTextCLIP)
VISION_TOWERS = [VisionTower]
TEXT_TOWERS = [TextTower]


def vision_tower(model: nn.Module) -> VisionTower:
    """The image tower of an open_clip model.

    Raises:
        ValueError: If it belongs to no known family.
    """
    return _tower(VISION_TOWERS, model.visual, "vision", 'text prompts alone need no ViT: towers="text"')


def text_tower(model: nn.Module) -> TextTower:
    """The text tower of an open_clip model.

    Raises:
        ValueError: If it belongs to no known family.
    """
    return _tower(TEXT_TOWERS, _text_module(model), "text", 'vision prompts alone: towers="vision"')


def known_towers(model: nn.Module) -> dict[str, Any]:
    """The towers of an open_clip model that belong to a known family, as "text" and "vision"."""
    found = {"text": _find(TEXT_TOWERS, _text_module(model))[0], "vision": _find(VISION_TOWERS, model.visual)[0]}
    return {name: tower for name, tower in found.items() if tower is not None}


def is_open_clip(model: Any) -> bool:
    """Whether an object is an open_clip model of a known kind, and not a wrapper around one."""
    return isinstance(model, MODELS)


def fit_text(model: nn.Module, text: Any, check: bool = True) -> Any:
    """Texts for open_clip's own forward: checked, and a shorter `context_length` filled up to the tower's.

    Texts for a tower of no known family are left as they are.
    """
    tower, _ = _find(TEXT_TOWERS, _text_module(model))
    if tower is None:
        return text
    if check:
        tower.check(text, n=0)
    return tower.pad(text)


def _text_module(model: nn.Module) -> Any:
    # CLIP, unlike CustomTextCLIP, holds the parts of its text tower itself.
    return getattr(model, "text", model)


def _tower(families: list[Any], module: Any, kind: str, way_out: str) -> Any:
    tower, reason = _find(families, module)
    if tower is None:
        known = ", ".join(cls.__name__ for family in families for cls in family.module_classes)
        raise ValueError(
            f"the {kind} tower {type(module).__name__} cannot take prompts: {reason}. "
            f"Known {kind} towers: {known}; {way_out}"
        )
    return tower


def _find(families: list[Any], module: Any) -> tuple[Any, str]:
    for family in families:
        if isinstance(module, family.module_classes):
            reason = family.refusal(module)
            return (family(module), "") if reason is None else (None, reason)
    return None, "it belongs to no known family"
