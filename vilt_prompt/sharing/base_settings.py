"""The settings of a base model that change its features without changing its weights, such as GELU or QuickGELU.

`wrap` reads them from the model. `create_model_and_transforms` builds the base with them, and loading compares them.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import nn

from vilt_prompt.config import JsonObject
from vilt_prompt.sharing.activation import QUICK_GELU, WRITTEN, activation
from vilt_prompt.towers.families import Model, text_tower, vision_tower
from vilt_prompt.towers.open_clip_text import OpenClipTextTower

# The settings of image preprocessing: open_clip's argument names, and the names in `model.visual.preprocess_cfg`.
_PREPROCESSING = {
    "image_mean": "mean",
    "image_std": "std",
    "image_interpolation": "interpolation",
    "image_resize_mode": "resize_mode",
}
# The settings whose argument has another name in open_clip.
_FORCED = {
    "image_size": "force_image_size",
    "context_length": "force_context_length",
    "patch_dropout": "force_patch_dropout",
}
# The settings that are compared, and their names in messages. Patch dropout is left out because it changes only
# training, and the precision because it changes only rounding.
_SHOWN = {
    "image_size": "image size",
    "image_mean": "mean of the pixels",
    "image_std": "standard deviation of the pixels",
    "image_interpolation": "interpolation of images",
    "image_resize_mode": "resize mode of images",
    "context_length": "context length",
    "text_activation": "activation of the text tower",
    "vision_activation": "activation of the vision tower",
    "text_heads": "attention heads of the text tower",
    "vision_heads": "attention heads of the vision tower",
}
_EXAMPLES: JsonObject = {
    "image_size": [224, 224],
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
    "image_interpolation": "bicubic",
    "image_resize_mode": "shortest",
    "context_length": 77,
    "text_activation": QUICK_GELU,
    "vision_activation": QUICK_GELU,
    "text_heads": [8],
    "vision_heads": [12],
    "patch_dropout": 0.5,
    "precision": "fp32",
}
_PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def base_settings(model: Model) -> JsonObject:
    """Read the settings of a model that change its features without changing its weights.

    Args:
        model: An open_clip model, with or without prompts.

    Returns:
        Plain values that JSON can store. Settings that the model lacks are left out: for example, a model that was not
        built by open_clip's factory has no mean and no interpolation.
    """
    visual, text = model.visual, text_tower(model)
    size = getattr(visual, "image_size", None)
    found: JsonObject = {"image_size": None if size is None else _pair(size)}
    preprocessing = getattr(visual, "preprocess_cfg", None) or {}
    for name, key in _PREPROCESSING.items():
        value = preprocessing.get(key)
        found[name] = list(map(float, value)) if isinstance(value, list | tuple) else value
    # The rows of the position embedding count: it may have been resized.
    # A Hugging Face tower takes any length up to its own.
    found["context_length"] = text.positions if isinstance(text, OpenClipTextTower) else None
    towers = {"text": text, "vision": vision_tower(model)}
    modules = {name: None if tower is None else tower.stands_for[-1] for name, tower in towers.items()}
    for name, module in modules.items():
        if module is not None:
            found |= {f"{name}_activation": activation(module), f"{name}_heads": _heads(module)}
    found["patch_dropout"] = _patch_dropout(visual)
    found["precision"] = _precision(model)
    return {name: value for name, value in found.items() if value is not None}


def building_arguments(settings: JsonObject) -> JsonObject:
    """The arguments with which `open_clip.create_model_and_transforms` builds a base of these settings.

    The precision is not among them: weights of full precision are exact, and take images as `preprocess` makes them.
    """
    _check_form(settings)
    arguments = {name: settings[name] for name in _PREPROCESSING if name in settings}
    arguments |= {argument: settings[name] for name, argument in _FORCED.items() if name in settings}
    if "force_image_size" in arguments:
        height, width = arguments["force_image_size"]
        arguments["force_image_size"] = height if height == width else (height, width)  # a ResNet takes one number
    if QUICK_GELU in (settings.get("text_activation"), settings.get("vision_activation")):
        arguments["force_quick_gelu"] = True
    return arguments


def without_overridden(settings: JsonObject, arguments: JsonObject) -> JsonObject:
    """Remove the settings that the caller overrides with open_clip's arguments."""
    chosen = {name for name, argument in _FORCED.items() if argument in arguments}
    chosen |= {name for name in _PREPROCESSING if name in arguments}
    if "force_quick_gelu" in arguments:
        chosen |= {"text_activation", "vision_activation"}
    return {name: value for name, value in settings.items() if name not in chosen}


def check_base_settings(found: JsonObject, expected: JsonObject, strict: bool) -> bool:
    """Compare the settings of a model with the recorded settings of an adapter's base.

    Settings that only one of them has are ignored.

    Args:
        found: The settings of the model.
        expected: The recorded settings.
        strict: Whether a difference is an error. If not, it is a warning.

    Returns:
        Whether no difference was found.

    Raises:
        ValueError: If the record is damaged, or if a setting differs and `strict`. Each difference is named.
    """
    _check_form(expected)
    different = [name for name in _SHOWN if not _same(expected.get(name), found.get(name))]
    if not different:
        return True
    shown = "; ".join(
        f"{_SHOWN[name]}: {_shown(name, expected[name])} in training, {_shown(name, found[name])} here"
        for name in different
    )
    message = f"the adapter was trained on a base with the same weights, but other settings: {shown}"
    if strict:
        raise ValueError(
            f"{message}. Build the base with those settings, as create_model_and_transforms does, or pass "
            "strict_base=False if the features may differ"
        )
    warnings.warn(f"{message}. It is loaded all the same (strict_base=False)", stacklevel=2)
    return False


def _check_form(settings: JsonObject) -> None:
    """Raise a ValueError if a recorded setting has another type than the one that `base_settings` returns."""
    for name, example in _EXAMPLES.items():
        value = settings.get(name)
        whole = isinstance(example, list)
        values = value if whole and isinstance(value, list) else [value]
        kind = type(example[0]) if whole else type(example)
        is_right = isinstance(value, list) == whole and all(type(each) is kind for each in values)
        if value is not None and not (is_right and (name != "image_size" or len(values) == 2)):
            raise ValueError(f"base_settings is damaged: {name} is {value!r}, expected a value such as {example!r}")


def _pair(size: int | tuple[int, int]) -> list[int]:
    return [int(side) for side in ((size, size) if isinstance(size, int) else size)]


def _heads(tower: nn.Module) -> list[int] | None:
    """The numbers of attention heads in a tower, each once, in the order of its modules."""
    counts = []
    for module in tower.modules():
        for name in ("num_heads", "num_attention_heads", "n_heads"):  # torch and timm; BERT; T5
            count = getattr(module, name, None)
            if isinstance(count, int) and count not in counts:
                counts.append(count)
    return counts or None


def _patch_dropout(visual: Any) -> float | None:
    rates = [float(module.prob) for module in visual.modules() if type(module).__name__ == "PatchDropout"]
    return max(rates, default=None)


def _precision(model: Model) -> str | None:
    """open_clip's name of the precision: "fp16" keeps the norms in float32, "pure_fp16" does not."""
    types = {parameter.dtype for parameter in model.visual.parameters() if parameter.is_floating_point()}
    low = types - {torch.float32}
    if len(low) > 1 or any(kind not in _PRECISIONS for kind in types):
        return None
    name = _PRECISIONS[next(iter(low or types), torch.float32)]
    return f"pure_{name}" if low and len(types) == 1 else name


def _same(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return True
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, float) or isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-5, abs_tol=1e-7)
    return bool(first == second)


def _shown(name: str, value: Any) -> str:
    if name.endswith("_activation"):
        return WRITTEN.get(value, str(value))
    if name == "image_size":
        return " x ".join(map(str, value))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
