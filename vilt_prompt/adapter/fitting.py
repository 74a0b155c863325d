"""Whether an adapter fits a model, or another adapter: all checks before the model is changed."""

from __future__ import annotations

import open_clip
import torch
from peft import PeftModel
from torch import nn

from vilt_prompt.adapter.layer import SAVED_PREFIX, PromptLayer
from vilt_prompt.adapter.names import check_adapter_name
from vilt_prompt.config import STRUCTURE, PromptConfig
from vilt_prompt.prompts import PromptTable
from vilt_prompt.sharing.activation import check_activation
from vilt_prompt.sharing.base_model import check_base, fingerprint
from vilt_prompt.sharing.base_settings import base_settings, check_base_settings
from vilt_prompt.sharing.saved_config import SavedConfig
from vilt_prompt.tokenization import content
from vilt_prompt.towers.families import (
    check_attentions,
    check_towers,
    depths,
    is_open_clip,
    known_tower,
    text_tower,
    vision_tower,
)
from vilt_prompt.towers.interface import TextTower

OPEN_CLIP_VOCABULARY = 49_408  # of CLIP's own tokenizer, which open_clip ships


def check_unwrapped(model: object) -> None:
    """Check that a model is an open_clip model without prompts.

    Raises:
        TypeError: If it is not an open_clip model, or a PEFT model.
        ValueError: If it is wrapped already.
    """
    if isinstance(getattr(model, "prompts", None), PromptLayer):
        raise ValueError(
            "the model is wrapped already: use wrapped.add_adapter(name, PromptConfig(...)), or unwrap(wrapped) first"
        )
    if isinstance(model, PeftModel):
        raise TypeError(
            f"the model is PEFT's already ({model.peft_type}): wrap the open_clip model inside, "
            "wrap(model.get_base_model(), ...)"
        )
    if not is_open_clip(model):
        raise TypeError(
            "expected an open_clip model (CLIP, CustomTextCLIP or CoCa), such as open_clip.create_model(...), got "
            f"{type(model).__name__}"
        )


def resolve_for(model: nn.Module, config: PromptConfig, adapter_name: str) -> PromptConfig:
    """Resolve the config of an adapter for a model, after all checks. The model is not changed.

    Args:
        model: The open_clip model.
        config: The config. A `SavedConfig` is checked together with its files.
        adapter_name: The name of the adapter.

    Returns:
        The config with all settings filled in, and with the fingerprint and settings of the base model.

    Raises:
        ValueError: If the config, its files or the name do not fit the model.
    """
    check_adapter_name(adapter_name)
    files = config.files if isinstance(config, SavedConfig) else None
    towers, _, _ = config.structure()
    check_attentions(model, towers)
    if isinstance(config, SavedConfig) and files is not None:
        config = _with_checked_base(config, model)
    else:
        if config.base_fingerprint is None:  # `combine` hands on the base of adapters that are there
            check_activation(model, config.base_model, config.base_pretrained)
        config = config.replace(base_fingerprint=fingerprint(model), base_settings=base_settings(model))
    check_towers(model, towers)
    if towers != "vision":
        text = known_tower(text_tower(model))
        if config.n_ctx > text.positions - 2:
            raise ValueError(
                f"n_ctx={config.n_ctx} leaves no room for a start and an end token in the text tower's "
                f"{text.positions} positions: choose n_ctx in 1..{text.positions - 2}"
            )
        if config.ctx_init is not None and files is None:
            config = config.replace(ctx_init=_first_ids(config.ctx_init, text))
    config = config.resolve(*depths(model))
    if files is not None:
        check_shapes(model, config, files.shapes)
    return config


def _with_checked_base(saved: SavedConfig, model: nn.Module) -> PromptConfig:
    """Compare the model with the base that a saved config records.

    A difference is a ValueError, or a warning if the config is not strict. After a warning, the returned config records
    this model instead.
    """
    config: PromptConfig = saved
    if not check_base(model, saved, saved.strict_base):
        # If the adapter is trained further, it belongs to this base.
        config = config.replace(base_model=None, base_pretrained=None, base_fingerprint=fingerprint(model))
    if config.base_settings is not None:
        found = base_settings(model)
        is_same = check_base_settings(found, config.base_settings, saved.strict_base)
        config = config.replace(base_settings={**found, **config.base_settings} if is_same else found)
    return config


def check_shapes(model: nn.Module, config: PromptConfig, found: dict[str, tuple[int, ...]]) -> None:
    """Raise a ValueError if the shapes of saved tensors do not fit a resolved config on this model.

    Args:
        model: The open_clip model.
        config: The resolved config.
        found: The shape of each saved tensor, by key.
    """
    check_equal_shapes(_shapes_on(model, config), found)


def check_equal_shapes(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    """Raise a ValueError if tensors are missing, left over, or of another shape than expected."""
    problems = [f"{key} is missing" for key in expected if key not in found]
    problems += [f"{key} is unexpected" for key in found if key not in expected]
    problems += [
        f"{key} is of shape {found[key]}, expected {shape}"
        for key, shape in expected.items()
        if found.get(key, shape) != shape
    ]
    if problems:
        more = f" (and {len(problems) - 6} more)" if len(problems) > 6 else ""
        raise ValueError(
            f"the adapter's tensors do not fit its config on this model: {'; '.join(problems[:6])}{more}. Load "
            "it onto the model that it was trained on"
        )


def differences(first: PromptConfig, second: PromptConfig) -> str:
    """The differences between the structures of two resolved configs, in words. Empty: none."""
    return "; ".join(
        f"{field} is {getattr(first, field)!r} and {getattr(second, field)!r}"
        for field in STRUCTURE
        if getattr(first, field) != getattr(second, field)
    )


def _shapes_on(model: nn.Module, config: PromptConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of an adapter on this model, under their names in a file."""
    layer = PromptLayer({}, "adapter")
    try:
        with torch.device("meta"):
            add_prompts(model, config, "adapter", layer)
    except (RuntimeError, OverflowError) as error:  # more elements than can be counted
        raise ValueError(
            f"n_ctx={config.n_ctx}, n_ctx_vision={config.n_ctx_vision} are too large: the prompts have more elements "
            "than PyTorch can count"
        ) from error
    return {SAVED_PREFIX + name: shape for name, shape in layer.shapes["adapter"].items()}


def add_prompts(model: nn.Module, config: PromptConfig, adapter_name: str, layer: PromptLayer) -> None:
    """Add the parameters of an adapter for this model to a layer."""
    towers = {"text": text_tower(model), "vision": vision_tower(model)}
    widths = {name: tower.width for name, tower in towers.items() if tower is not None}
    layer.add(adapter_name, config, PromptTable.of(config, *depths(model)), widths)


def _first_ids(ctx_init: str | list[int], text: TextTower) -> list[int]:
    if isinstance(ctx_init, str):
        if text.vocabulary != OPEN_CLIP_VOCABULARY:
            raise ValueError(
                f"ctx_init={ctx_init!r} is a text, but the vocabulary of {text.vocabulary} ids is not open_clip's own: "
                "pass wrap(..., tokenizer=tokenizer), or token ids"
            )
        return content(open_clip.SimpleTokenizer(), ctx_init)
    if max(ctx_init, default=0) >= text.vocabulary:
        raise ValueError(
            f"ctx_init has token ids up to {max(ctx_init)}, the vocabulary ends at {text.vocabulary - 1}: use "
            "this model's tokenizer"
        )
    return ctx_init
