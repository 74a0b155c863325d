"""Tiny wrapped models, with one adapter or several, and their features."""

from __future__ import annotations

import copy

import torch
from peft import PeftModel

import vilt_prompt
from tests.support.architectures import build, class_ids, frames
from vilt_prompt import PromptConfig

SETTINGS = {"K": 2, "n_ctx": 3}
OTHER = {
    "a": PromptConfig(**SETTINGS),
    "b": PromptConfig(**SETTINGS),
    "maple": PromptConfig.preset("maple", n_ctx=2),
    "text": PromptConfig.preset("coop", n_ctx=4),
}
IDS = class_ids(build("4/4"), [1, 3, 2])
IMAGES = frames(build("4/4"), 2)


def wrapped(architecture: str = "4/4", seed: int = 0, **settings) -> PeftModel:
    base = build(architecture)
    torch.manual_seed(seed)
    return vilt_prompt.wrap(base, **{**SETTINGS, **settings}).eval()


def trainable(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def features(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return model.encode_text(IDS), model.encode_image(IMAGES)


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def several(*names: str, architecture: str = "4/4") -> PeftModel:
    """A model whose active adapter is "default", with others of the given names, all of them of different values."""
    torch.manual_seed(0)
    model = vilt_prompt.wrap(build(architecture), **SETTINGS).eval()
    for name in names:
        model.add_adapter(name, copy.deepcopy(OTHER[name]))
    with torch.no_grad():
        for parameter in model.prompts.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def frozen() -> torch.nn.Module:
    return build("4/4").requires_grad_(False)


def flags(model) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def alone(model, name: str) -> list[torch.Tensor]:
    """The features of one adapter, by making it the active one of a copy."""
    model = copy.deepcopy(model)
    model.set_adapter(name)
    return features(model)
