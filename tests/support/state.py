"""What a refused call must leave alone."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import nn

SWITCHES = ("active_adapter", "_active_adapter", "_disable_adapters", "flags_before")


def state(model: nn.Module) -> str:
    """A hash of everything that a refused call must leave alone."""
    digest = hashlib.sha256()

    def note(*facts: Any) -> None:
        digest.update(repr(facts).encode())

    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        note(name, id(tensor), tensor.requires_grad, tensor.dtype, tuple(tensor.shape), tensor.grad is None)
        if not tensor.is_meta:
            digest.update(tensor.detach().numpy().tobytes())
    for name, module in model.named_modules():
        attributes = vars(module)
        note(name, type(module), module.training, sorted(attributes))
        note([(kind, list(hooks)) for kind, hooks in sorted(attributes.items()) if "hooks" in kind])
        note([attributes.get(switch) for switch in SWITCHES])
        note(list(attributes.get("tables", [])))
        for adapter, config in {**attributes.get("peft_config", {}), **attributes.get("configs", {})}.items():
            note(adapter, id(config), sorted(config.to_dict().items()))
    return digest.hexdigest()
