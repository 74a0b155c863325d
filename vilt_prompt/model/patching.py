"""Turn an open_clip model into a prompted model in place, and back.

The model gets a subclass of its own class, as `fully_shard` does it: the names of parameters and modules stay the same.
"""

from __future__ import annotations

from typing import cast
from weakref import WeakSet

from open_clip import CoCa
from torch import nn

from vilt_prompt.model.batch_norms import freeze_statistics
from vilt_prompt.model.coca import PromptedCoCa
from vilt_prompt.model.prompted import PromptedModel
from vilt_prompt.model.prompted_towers import PromptSource
from vilt_prompt.towers.families import Model, families_of

_PROMPTED: dict[type[nn.Module], type[PromptedModel]] = {}
_PATCHED: WeakSet[PromptedModel] = WeakSet()  # the models that are patched now: two of them may share a tower


def patch(model: Model, prompts: PromptSource) -> None:
    """Turn an open_clip model into a frozen `PromptedModel` in place.

    Args:
        model: The open_clip model.
        prompts: The layer that holds the prompts of all adapters. It becomes the model's child `prompts`.
    """
    shared = _flags_of_other_models(model)
    flags = {name: shared.get(id(each), each.requires_grad) for name, each in model.named_parameters()}
    flags |= {name: shared.get(id(each), each.training) for name, each in model.named_modules()}
    model.requires_grad_(False)  # before the prompts become a child, so that they stay trainable
    families = families_of(model)
    model.__class__ = _prompted(type(model))
    prompted = cast(PromptedModel, model)
    prompted.families = families
    prompted.flags_before = flags
    prompted.prompts = prompts
    freeze_statistics(prompted)
    _PATCHED.add(prompted)


def unpatch(model: nn.Module) -> nn.Module:
    """Undo `patch`, and restore the class, `requires_grad` of every parameter and training mode of every module.

    A tower that another patched model has too stays frozen until that model is unpatched.
    """
    assert isinstance(model, PromptedModel)
    flags = model.flags_before
    _PATCHED.discard(model)
    shared = _flags_of_other_models(model)
    restored: nn.Module = model
    del model.prompts, model.flags_before, model.families
    restored.__class__ = model.base_class
    for name, parameter in model.named_parameters():
        if id(parameter) not in shared:
            parameter.requires_grad_(flags.get(name, parameter.requires_grad))
    for name, module in model.named_modules():
        if id(module) not in shared:
            module.training = flags.get(name, module.training)
    return model


def _flags_of_other_models(model: nn.Module) -> dict[int, bool]:
    """The flags that parameters and modules of other patched models had before `patch`, by their ids."""
    flags: dict[int, bool] = {}
    for other in list(_PATCHED):
        if other is not model:
            every = [*other.named_parameters(), *other.named_modules()]
            flags |= {id(each): other.flags_before[name] for name, each in every if name in other.flags_before}
    return flags


def _prompted(cls: type[nn.Module]) -> type[PromptedModel]:
    """The prompted subclass of an open_clip class. It is made once for each class."""
    if cls not in _PROMPTED:
        mixin = PromptedCoCa if issubclass(cls, CoCa) else PromptedModel
        members = {"__module__": cls.__module__, "base_class": cls, "__reduce_ex__": _reduce}
        _PROMPTED[cls] = type(f"Prompted{cls.__name__}", (mixin, cls), members)
    return _PROMPTED[cls]


def _reduce(model: PromptedModel, protocol: object) -> tuple[object, ...]:
    # Pickle cannot find a class that was made at run time by its name. Copies and pickles refer to the open_clip class
    # instead, and make the subclass again.
    return _rebuild, (model.base_class,), model.__dict__


def _rebuild(cls: type[nn.Module]) -> PromptedModel:
    prompted = _prompted(cls)
    return prompted.__new__(prompted)
