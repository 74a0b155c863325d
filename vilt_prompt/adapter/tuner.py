"""The PEFT tuner: it puts an adapter's prompts into an open_clip model, so that PEFT's methods work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from vilt_prompt.adapter.fitting import add_prompts, check_shapes, check_unwrapped, resolve_for
from vilt_prompt.adapter.layer import PREFIX, PromptLayer
from vilt_prompt.adapter.other_adapters import PromptConfigs, without_configs
from vilt_prompt.config import PromptConfig
from vilt_prompt.model.patching import patch, unpatch
from vilt_prompt.model.prompted import PromptedModel
from vilt_prompt.towers.families import known_tower, text_tower


class PromptTuner(BaseTuner):
    """The tuner that `get_peft_model` makes for a `PromptConfig`."""

    prefix = PREFIX
    tuner_layer_cls = PromptLayer
    target_module_mapping: dict[str, list[str]] = {}
    uses_shared_state = True  # all layers share the maps
    peft_config: dict[str, PromptConfig]  # type: ignore[assignment]  # PEFT's may be of any kind

    def __init__(self, model: nn.Module, peft_config: Any, adapter_name: str, **kwargs: Any) -> None:
        check_unwrapped(model)
        with without_configs(model):  # another tuner may be in the model, and each keeps its own
            super().__init__(model, PromptConfigs(peft_config), adapter_name, **kwargs)

    @property
    def active_adapter(self) -> str | list[str]:
        """The name of the active adapter, which the layer holds. An empty list if none is active."""
        prompts = getattr(self.model, "prompts", None)
        names = prompts.active_adapters if isinstance(prompts, PromptLayer) else []
        return names[0] if names else []

    @active_adapter.setter
    def active_adapter(self, name: str | list[str]) -> None:
        pass  # PEFT assigns it after it has switched the layer, which holds the name

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Put an adapter into the model. All checks come first, and if an error occurs, the model is restored."""
        self.peft_config[adapter_name] = resolve_for(model, self.peft_config[adapter_name], adapter_name)
        is_first = not isinstance(model, PromptedModel)
        if is_first:
            patch(model, PromptLayer(self.peft_config, adapter_name))
        present = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            super().inject_adapter(model, adapter_name, *args, **kwargs)
            # PEFT before 0.21 makes the active adapter trainable again, and freezes all that has the new name in it.
            for parameter, requires_grad in present:
                parameter.requires_grad_(requires_grad)
        except BaseException:
            if is_first:
                unpatch(model)
            else:
                self.model.prompts.delete_adapter(adapter_name)
                del self.peft_config[adapter_name]
            raise

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter.

        Raises:
            ValueError: If it is the only one.
        """
        if list(self.peft_config) == [adapter_name]:
            raise ValueError(
                f"{adapter_name!r} is the only adapter: add another one first, or remove all prompts with unwrap"
            )
        del self.peft_config[adapter_name]
        self.model.prompts.delete_adapter(adapter_name)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Make an adapter the active one; see `PromptLayer.set_adapter`."""
        self.model.prompts.set_adapter(adapter_name, inference_mode)

    def __getattr__(self, name: str) -> Any:
        """Look up unknown attributes in the model, where PEFT's methods expect them."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":  # not set yet
                raise
            return getattr(self.model, name)

    def is_in_place(self) -> bool:
        """Whether the model's prompts belong to this tuner."""
        prompts = getattr(self.model, "prompts", None)
        return isinstance(prompts, PromptLayer) and prompts.configs is self.peft_config

    def unload(self) -> nn.Module:
        """Remove the prompts, and return the open_clip model as it was before."""
        return unpatch(self.model)

    def enable_adapter_layers(self) -> None:
        """Switch the prompts on. PEFT's own method would switch on adapters of other kinds too."""
        self.model.prompts.enable_adapters(True)

    def disable_adapter_layers(self) -> None:
        """Switch the prompts off."""
        self.model.prompts.enable_adapters(False)

    def merge_adapter(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise a ValueError: prompts are tokens, so there is nothing to merge into the weights."""
        raise ValueError("prompts cannot be merged into the weights: keep the adapter, or take it out with unwrap")

    merge_and_unload = unmerge_adapter = merge_adapter

    @contextlib.contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, adapter_names: Any = None, **kwargs: Any) -> Iterator[None]:
        if adapter_names is not None:
            raise ValueError("adapter_names= (an adapter for each sample) is not supported: use set_adapter(name)")
        yield

    # The next three methods are abstract in PEFT before 0.18.

    @staticmethod
    def _check_target_module_exists(peft_config: object, key: str) -> bool:
        return key == "prompts"

    def _prepare_adapter_config(self, peft_config: PeftConfig, model_config: object) -> PeftConfig:
        return peft_config

    def _mark_only_adapters_as_trainable(self, model: nn.Module) -> None:
        """Nothing is left to do: `patch` has frozen the model, and `set_adapter` the adapters that are not active."""

    def _create_and_replace(self, peft_config: Any, adapter_name: str, target: Any, *_: Any, **__: Any) -> None:
        add_prompts(self.model, peft_config, adapter_name, target)
        if any(parameter.is_meta for parameter in target.parameters()):
            return  # PEFT's low_cpu_mem_usage: the values come from a file
        # Made on the CPU, prompts are the same under one seed whatever the device of the base model.
        target.to(self.model.logit_scale.device)
        if peft_config.ctx_init is not None:
            embedding = known_tower(text_tower(self.model)).embedding
            # Values from a file come after this; there the vocabulary may be another one.
            if max(peft_config.ctx_init) < len(embedding.weight):
                ids = torch.tensor(peft_config.ctx_init, device=embedding.weight.device)
                target.start_from(adapter_name, embedding(ids))

    @classmethod
    def _get_adapter_state_dict(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor], *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        # While saving, PEFT asks the Hub about a base of this name.
        config.base_model_name_or_path = None
        # PEFT takes the tensors of all tuners in the model, LoRA's too.
        ours = {key: tensor for key, tensor in state_dict.items() if f".prompts.{PREFIX}" in key}
        return super()._get_adapter_state_dict(model, config, adapter_name, ours, *args, **kwargs)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: Any, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        # PEFT only warns of missing tensors, and ignores unexpected ones.
        check_shapes(model.get_base_model(), config, {key: tuple(tensor.shape) for key, tensor in state_dict.items()})
        return super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
