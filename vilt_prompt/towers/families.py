"""The registry: which families of towers take prompts. A new family is a file like `timm.py` and an entry here.

What a family must have stands in `vilt_prompt/towers/interface.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, TypeGuard, TypeVar

from open_clip import CLIP, CoCa, CustomTextCLIP
from torch import Tensor, nn

from vilt_prompt.towers import open_clip_blocks, timm
from vilt_prompt.towers.hugging_face import HuggingFaceTextTower
from vilt_prompt.towers.interface import TextTower, Tower, VisionTower
from vilt_prompt.towers.layers import Prompts
from vilt_prompt.towers.open_clip_text import OpenClipTextTower
from vilt_prompt.towers.open_clip_vision import OpenClipVisionTower
from vilt_prompt.towers.packing import PackedTexts
from vilt_prompt.towers.sharding import gathered
from vilt_prompt.towers.timm import TimmVisionTower

Model: TypeAlias = CLIP | CustomTextCLIP | CoCa
MODELS = (CLIP, CustomTextCLIP, CoCa)
VISION_TOWERS: list[type[VisionTower]] = [OpenClipVisionTower, TimmVisionTower]
TEXT_TOWERS: list[type[TextTower]] = [OpenClipTextTower, HuggingFaceTextTower]
# Each refuses an attention of its own kind that ignores an adapter, and passes all others.
ATTENTION_CHECKS = (open_clip_blocks.check_attention, timm.check_attention)

ADD_A_TOWER = "CONTRIBUTING.md, Add a family of encoders"

AnyTower = TypeVar("AnyTower", bound=Tower)


class Families(NamedTuple):
    """The families of the two towers of a model. None: no family of the registry."""

    text: type[TextTower] | None
    vision: type[VisionTower] | None


def is_open_clip(model: object) -> TypeGuard[Model]:
    """Whether an object is an open_clip model of a known kind."""
    return isinstance(model, MODELS)


def families_of(model: Model) -> Families:
    """The families of the towers of an open_clip model."""
    return Families(_family(TEXT_TOWERS, text_module(model)), _family(VISION_TOWERS, model.visual))


def vision_tower(model: Model) -> VisionTower | None:
    """The image tower of an open_clip model, or None if it belongs to no known family."""
    family = _family(VISION_TOWERS, model.visual)
    return None if family is None else family(model.visual)


def text_tower(model: Model) -> TextTower | None:
    """The text tower of an open_clip model, or None if it belongs to no known family."""
    module = text_module(model)
    family = _family(TEXT_TOWERS, module)
    return None if family is None else family(module)


def text_module(model: Model) -> nn.Module:
    """The module that a text tower is a view of. `CLIP` holds the parts of its text tower itself."""
    return getattr(model, "text", model)


def known_tower(tower: AnyTower | None) -> AnyTower:
    """The tower, where an earlier check made sure that it belongs to a known family."""
    assert tower is not None
    return tower


def depths(model: Model) -> tuple[int, int]:
    """The numbers of layers of the text and the vision tower, 0 if a tower belongs to no known family."""
    text, vision = text_tower(model), vision_tower(model)
    return 0 if text is None else text.layers, 0 if vision is None else vision.layers


def run_tower(
    tower: Tower, inputs: Tensor | PackedTexts, prompts: Prompts, with_tokens: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Run `tower.encode` while the weights of the tower are whole, even if several processes hold shards of them."""
    encoded: tuple[Tensor, Tensor | None] = gathered(tower.stands_for, tower.encode, inputs, prompts, with_tokens)
    return encoded


def check_towers(model: Model, towers: str) -> None:
    """Check that the towers that are to have prompts can take them.

    Args:
        model: The open_clip model.
        towers: Which towers: "both", "text" or "vision".

    Raises:
        ValueError: If one of them belongs to no known family, or cannot take prompts for another reason.
    """
    if towers != "text":
        way_out = 'text prompts alone need no ViT: towers="text", or method="coop"'
        _check_tower(VISION_TOWERS, model.visual, "vision", way_out)
    if towers != "vision":
        _check_tower(TEXT_TOWERS, text_module(model), "text", 'vision prompts alone: towers="vision"')


def check_attentions(model: Model, towers: str) -> None:
    """Check that no attention ignores an adapter of another kind, such as LoRA.

    Args:
        model: The open_clip model.
        towers: Which towers are to have prompts: "both", "text" or "vision".

    Raises:
        ValueError: If there is such an adapter, which would have no effect.
    """
    for name, module in model.named_modules():
        tower = "vision" if name.startswith("visual.") else "text"
        if towers in ("both", tower) and hasattr(module, "attn"):
            for check in ATTENTION_CHECKS:
                check(module.attn)


def _family(families: Sequence[type[AnyTower]], module: nn.Module) -> type[AnyTower] | None:
    return next((family for family in families if family.owns(module)), None)


def _check_tower(families: Sequence[type[AnyTower]], module: nn.Module, kind: str, way_out: str) -> None:
    family = _family(families, module)
    reason = "it belongs to no known family" if family is None else family.refusal(module)
    if reason is not None:
        # open_clip's and timm's vision transformers have the same name.
        known = ", ".join(dict.fromkeys(cls.__name__ for each in families for cls in each.module_classes))
        name = " of ".join(type(part).__name__ for part in (getattr(module, "trunk", None), module) if part is not None)
        raise ValueError(
            f"the {kind} tower {name} cannot take prompts: {reason}. Known {kind} towers: {known}; {way_out}. "
            f"How to add one: {ADD_A_TOWER}"
        )
