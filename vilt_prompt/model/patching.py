"""How an open_clip model becomes a prompted one in place, and back.

The model gets a subclass of its own class, as with `fully_shard`: all its names stay the same.
"""

from __future__ import annotations

from typing import Any

from open_clip import CoCa
from torch import nn

from vilt_prompt.model.coca import PromptedCoCa
from vilt_prompt.model.prompted import PromptedModel, freeze_statistics
from vilt_prompt.towers.families import families_of

_PROMPTED: dict[type[nn.Module], type[nn.Module]] = {}


def patch(model: Any, prompts: nn.Module) -> None:
    """Turn an open_clip model into a frozen `PromptedModel` in place.

    Args:
        model: The open_clip model.
        prompts: The layer that holds the prompts of all adapters. It becomes the model's child `prompts`.
    """
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    flags |= {name: module.training for name, module in model.named_modules()}
    model.families = families_of(model)
    model.requires_grad_(False)
    model.__class__ = _prompted(type(model))
    model.flags_before = flags
    model.prompts = prompts
    freeze_statistics(model)


def unpatch(model: Any) -> nn.Module:
    """Undo `patch`: class, `requires_grad` of every parameter and training mode of every module are as before."""
    flags = model.flags_before
    del model.prompts, model.flags_before, model.families
    model.__class__ = model.base_class
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(flags.get(name, parameter.requires_grad))
    for name, module in model.named_modules():
        module.training = flags.get(name, module.training)
    return model


def _prompted(cls: type[nn.Module]) -> Any:
    """The one subclass of an open_clip class."""
    if cls not in _PROMPTED:
        mixin = PromptedCoCa if issubclass(cls, CoCa) else PromptedModel
        members = {"__module__": cls.__module__, "base_class": cls, "__reduce_ex__": _reduce}
        _PROMPTED[cls] = type(f"Prompted{cls.__name__}", (mixin, cls), members)
    return _PROMPTED[cls]


def _reduce(model: Any, protocol: Any) -> Any:
    # The class is made at run time, so copies and pickles hold the open_clip class from which it can be made.
    return _rebuild, (model.base_class,), model.__dict__


def _rebuild(cls: type[nn.Module]) -> Any:
    prompted = _prompted(cls)
    return prompted.__new__(prompted)
