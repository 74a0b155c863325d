"""PEFT adapters of other kinds, such as LoRA, in an open_clip model that also has prompts.

Adapters that the attention of a block would ignore are refused in `vilt_prompt.towers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from peft import PeftConfig
from torch import nn

from vilt_prompt.config import PromptConfig


def set_aside(model: nn.Module) -> object:
    """Remove PEFT's attribute `peft_config` from a model, and return it.

    Otherwise PEFT would add the configs of the next kind of adapter to the same dict.
    """
    return model.__dict__.pop("peft_config", None)


def put_back(model: nn.Module, configs: object) -> None:
    """Restore the attribute that `set_aside` removed, and drop the one that PEFT has set since."""
    set_aside(model)
    if configs is not None:
        model.__dict__["peft_config"] = configs


class PromptConfigs(dict[str, PeftConfig]):
    """The configs of a tuner. Configs of other kinds, which PEFT would add for a second PEFT model, are refused."""

    def __setitem__(self, adapter_name: str, config: PeftConfig) -> None:
        if not isinstance(config, PromptConfig):
            raise TypeError(
                f"a {type(config).__name__} cannot go around a model with prompts: put it on the open_clip model "
                "inside, get_peft_model(wrapped.get_base_model(), ...)"
            )
        super().__setitem__(adapter_name, config)

    def update(self, configs: Mapping[str, PeftConfig]) -> None:  # type: ignore[override]
        """Add configs, each with the check of a single one."""
        for adapter_name, config in dict(configs).items():
            self[adapter_name] = config
