"""The families of towers that take prompts. A new one is a file like `timm_towers.py` and a line here.

A family is a class around a tower's module, one of its `module_classes`. `owns(module)` says whether a module is of it,
`refusal(module)` why one cannot take prompts all the same. Its objects have

- `family`, a name; `layers`; `width` of a token; `blocks`, the layers in pieces or whole (see `attention.py`);
- `encode(inputs, prompts, with_tokens)`: images or token ids, and the (n, d) prompt that enters each layer (None:
  carried on), to features (rows, D), not normalised, and the tokens if wanted;
- `stands_for`, the modules in place of whose forward `encode` runs, the outer one first;
- image towers: `image_size`, None where any size will do;
- text towers: `embedding` of tokens, `positions` for ids and prompts together, `vocabulary`, `check(text)` of token
  ids, and `runs_alone(columns)`, whether the module's own forward takes texts of so many columns.
"""

from __future__ import annotations

from typing import Any

from open_clip import CLIP, CoCa, CustomTextCLIP
from open_clip.transformer import ResidualAttentionBlock
from timm.models.eva import EvaBlock, EvaBlockPostNorm
from torch import Tensor, nn

from vilt_prompt.towers import open_clip_blocks, timm
from vilt_prompt.towers.hugging_face import HuggingFaceTextTower
from vilt_prompt.towers.open_clip_text import TextTower
from vilt_prompt.towers.open_clip_vision import VisionTower
from vilt_prompt.towers.sharding import gathered
from vilt_prompt.towers.timm import TimmVisionTower

MODELS = (CLIP, CustomTextCLIP, CoCa)
VISION_TOWERS: list[Any] = [VisionTower, TimmVisionTower]
TEXT_TOWERS: list[Any] = [TextTower, HuggingFaceTextTower]

ADD_A_TOWER = "CONTRIBUTING.md, Add a family of encoders"


def is_open_clip(model: Any) -> bool:
    """Whether an object is an open_clip model of a known kind."""
    return isinstance(model, MODELS)


def vision_tower(model: Any) -> Any:
    """The image tower of an open_clip model, or None if it belongs to no known family."""
    return _tower(VISION_TOWERS, model.visual)


def text_tower(model: Any) -> Any:
    """The text tower of an open_clip model, or None if it belongs to no known family."""
    return _tower(TEXT_TOWERS, _text_module(model))


def depths(model: Any) -> tuple[int, int]:
    """The layers of the text and of the vision tower, 0 where it is unknown."""
    text, vision = text_tower(model), vision_tower(model)
    return 0 if text is None else text.layers, 0 if vision is None else vision.layers


def run_tower(tower: Any, inputs: Tensor, prompts: list[Tensor | None], with_tokens: bool = False) -> Any:
    """`tower.encode`, also where the tower's weights are sharded over several processes."""
    return gathered(tower.stands_for, tower.encode, inputs, prompts, with_tokens)


def check_towers(model: Any, towers: str) -> None:
    """Refuses towers that shall have prompts ("both", "text" or "vision") and cannot take them (ValueError)."""
    if towers != "text":
        way_out = 'text prompts alone need no ViT: towers="text", or method="coop"'
        _check_tower(VISION_TOWERS, model.visual, "vision", way_out)
    if towers != "vision":
        _check_tower(TEXT_TOWERS, _text_module(model), "text", 'vision prompts alone: towers="vision"')


def check_attentions(model: nn.Module, towers: str) -> None:
    """Raise a ValueError if an adapter of another kind is on an attention that ignores it.

    Args:
        model: The open_clip model.
        towers: Which towers get prompts, and are checked: "both", "text" or "vision".
    """
    for name, module in model.named_modules():
        tower = "vision" if name.startswith("visual.") else "text"
        if towers not in ("both", tower):
            continue
        if isinstance(module, ResidualAttentionBlock):
            open_clip_blocks.check_attention(module.attn)
        elif isinstance(module, EvaBlock | EvaBlockPostNorm):
            timm.check_attention(module.attn)


def prompts_where_needed(model: nn.Module, text: Any, check: bool) -> list[Tensor | None] | None:
    """For texts without prompts: None where open_clip's own forward takes them, else that no layer has a prompt.

    Then the library's own runs, which takes texts of any length.
    """
    tower = text_tower(model)
    if tower is None or tower.refusal(_text_module(model)) is not None:
        return None
    if check:
        tower.check(text)
    if not isinstance(text, Tensor) or text.ndim != 2 or tower.runs_alone(text.shape[1]):
        return None
    return [None] * tower.layers


def _text_module(model: Any) -> Any:
    # CLIP, unlike CustomTextCLIP, holds the parts of its text tower itself.
    return getattr(model, "text", model)


def _tower(families: list[Any], module: nn.Module) -> Any:
    for family in families:
        if family.owns(module):
            return family(module)
    return None


def _check_tower(families: list[Any], module: nn.Module, kind: str, way_out: str) -> None:
    tower = _tower(families, module)
    reason = "it belongs to no known family" if tower is None else tower.refusal(module)
    if reason is not None:
        # open_clip's and timm's vision transformers have one name.
        known = ", ".join(dict.fromkeys(cls.__name__ for family in families for cls in family.module_classes))
        name = " of ".join(type(part).__name__ for part in (getattr(module, "trunk", None), module) if part is not None)
        raise ValueError(
            f"the {kind} tower {name} cannot take prompts: {reason}. Known {kind} towers: {known}; {way_out}. "
            f"How to add one: {ADD_A_TOWER}"
        )
