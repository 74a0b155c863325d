"""PEFT adapters of other kinds, such as LoRA, in an open_clip model that also has prompts.

Adapters that the attention of a block would ignore are refused in `vilt_prompt.towers`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from peft import PeftConfig
from torch import nn

from vilt_prompt.config import PromptConfig


@contextlib.contextmanager
def without_configs(model: nn.Module) -> Iterator[None]:
    """Remove PEFT's attribute `peft_config` from a model inside the block, and restore it afterwards.

    Otherwise PEFT would add the configs of the next kind of adapter to the same dict. The attribute that PEFT sets
    inside the block is dropped.
    """
    configs = model.__dict__.pop("peft_config", None)
    try:
        yield
    finally:
        model.__dict__.pop("peft_config", None)
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
