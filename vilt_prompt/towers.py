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


def is_open_clip(model: Any) -> bool:
    """Whether an object is an open_clip model of a known kind, and not a wrapper around one."""
    return isinstance(model, MODELS)


def vision_tower(model: Any) -> Any:
    """The image tower of an open_clip model, or None if it belongs to no known family."""
    return _tower(VISION_TOWERS, model.visual)


def text_tower(model: Any) -> Any:
    """The text tower of an open_clip model, or None if it belongs to no known family."""
    return _tower(TEXT_TOWERS, _text_module(model))


def depths(model: Any) -> tuple[int, int]:
    """The layers of the text and of the vision tower, 0 where the family is unknown."""
    text, vision = text_tower(model), vision_tower(model)
    return 0 if text is None else text.layers, 0 if vision is None else vision.layers


def check_towers(model: Any, towers: str) -> None:
    """Checks that the towers that shall have prompts ("both", "text" or "vision") can take them.

    Raises:
        ValueError: If one cannot.
    """
    if towers != "text":
        _check_tower(VISION_TOWERS, model.visual, "vision", 'text prompts alone need no ViT: towers="text"')
    if towers != "vision":
        _check_tower(TEXT_TOWERS, _text_module(model), "text", 'vision prompts alone: towers="vision"')


def fit_text(model: nn.Module, text: Any, check: bool = True) -> Any:
    """Texts for open_clip's own forward: checked, and a shorter `context_length` filled up to the tower's.

    Texts for a tower that could not take prompts are left as they are: filling them up may change their features.
    """
    tower = text_tower(model)
    if tower is None or tower.refusal(tower.text) is not None:
        return text
    if check:
        tower.check(text, n=0)
    return tower.pad(text)


def _text_module(model: Any) -> Any:
    # CLIP, unlike CustomTextCLIP, holds the parts of its text tower itself.
    return getattr(model, "text", model)


def _tower(families: list[Any], module: nn.Module) -> Any:
    for family in families:
        if isinstance(module, family.module_classes):
            return family(module)
    return None


def _check_tower(families: list[Any], module: nn.Module, kind: str, way_out: str) -> None:
    tower = _tower(families, module)
    reason = "it belongs to no known family" if tower is None else tower.refusal(module)
    if reason is not None:
        known = ", ".join(cls.__name__ for family in families for cls in family.module_classes)
        raise ValueError(
            f"the {kind} tower {type(module).__name__} cannot take prompts: {reason}. "
            f"Known {kind} towers: {known}; {way_out}"
        )
