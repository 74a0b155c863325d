"""PEFT adapters of other kinds, such as LoRA, in the same open_clip model: what works beside prompts, what is refused.

`vilt_prompt.towers` knows where a block's attention ignores an adapter, and refuses it there.
"""

from __future__ import annotations

from typing import Any

from peft import PeftConfig
from torch import nn

from vilt_prompt.config import PromptConfig


def set_aside(model: nn.Module) -> Any:
    """Takes PEFT's note of the configs off a model, into which it would write those of the next kind."""
    return model.__dict__.pop("peft_config", None)


def put_back(model: nn.Module, note: Any) -> None:
    """Puts it back, in place of what PEFT has put there since."""
    set_aside(model)
    if note is not None:
        model.peft_config = note


class PromptConfigs(dict[str, Any]):
    """The configs of a tuner, into which PEFT would write those of another one around the wrapped model."""

    def __setitem__(self, adapter_name: str, config: PeftConfig) -> None:
        if not isinstance(config, PromptConfig):
            raise TypeError(
                f"a {type(config).__name__} cannot go around a model with prompts: put it on the open_clip model "
                "inside, get_peft_model(wrapped.get_base_model(), ...)"
            )
        super().__setitem__(adapter_name, config)

    def update(self, configs: Any) -> None:  # type: ignore[override]
        """Adds configs, checked as one of them is."""
        for adapter_name, config in dict(configs).items():
            self[adapter_name] = config
