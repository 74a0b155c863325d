"""The PEFT tuner: puts an adapter's prompts into an open_clip model, so that PEFT's verbs hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import open_clip
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from vilt_prompt.adapter.other_adapters import PromptConfigs, check_attentions, put_back, set_aside
from vilt_prompt.config import PromptConfig
from vilt_prompt.model.prompted import PromptedModel, patch, unpatch
from vilt_prompt.prompts import PREFIX, PromptLayer, PromptTable, refuse_adapter_name
from vilt_prompt.sharing.base_model import check_base, fingerprint
from vilt_prompt.sharing.base_settings import check_activation
from vilt_prompt.towers.families import check_towers, depths, is_open_clip, text_tower, vision_tower
from vilt_prompt.towers.token_ids import content

OPEN_CLIP_VOCABULARY = 49_408  # of CLIP's own tokenizer, which open_clip ships


class PromptTuner(BaseTuner):
    """Adapts an open_clip model with the prompts of a `PromptConfig`; `get_peft_model` makes it."""

    prefix = PREFIX
    tuner_layer_cls = PromptLayer
    target_module_mapping: dict[str, list[str]] = {}
    uses_shared_state = True  # the maps belong to all layers at once

    def __init__(self, model: nn.Module, peft_config: Any, adapter_name: str, **kwargs: Any) -> None:
        check_unwrapped(model)
        # Another tuner may be in the model: each keeps its own configs.
        other_configs = set_aside(model)
        try:
            super().__init__(model, PromptConfigs(peft_config), adapter_name, **kwargs)
        finally:
            put_back(model, other_configs)
        self.model.prompts.configs = self.peft_config

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """PEFT's injection, with all checked and resolved before the model is touched; if it fails, nothing is left."""
        self.peft_config[adapter_name] = resolve_for(model, self.peft_config[adapter_name], adapter_name)
        is_first = not isinstance(model, PromptedModel)
        if is_first:
            patch(model)
        try:
            super().inject_adapter(model, adapter_name, *args, **kwargs)
        except BaseException:
            if is_first:
                unpatch(model)
            else:
                self.model.prompts.delete_adapter(adapter_name)
                del self.peft_config[adapter_name]
            raise

    def delete_adapter(self, adapter_name: str) -> None:
        """Deletes an adapter, but not the only one (ValueError)."""
        if list(self.peft_config) == [adapter_name]:
            raise ValueError(
                f"{adapter_name!r} is the only adapter: add another one first, or take all out with unwrap"
            )
        super().delete_adapter(adapter_name)

    def is_in_place(self) -> bool:
        """Whether the prompts in the model are those of this tuner."""
        prompts = getattr(self.model, "prompts", None)
        return isinstance(prompts, PromptLayer) and prompts.configs is self.peft_config

    def unload(self) -> nn.Module:
        """Takes the prompts out: the open_clip model as it was before."""
        return unpatch(self.model)

    def enable_adapter_layers(self) -> None:
        """Switches the prompts on, and unlike PEFT's own version nothing else in the model."""
        self.model.prompts.enable_adapters(True)

    def disable_adapter_layers(self) -> None:
        """Switches the prompts off."""
        self.model.prompts.enable_adapters(False)

    def merge_adapter(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: prompts are tokens, not weights."""
        raise ValueError("prompts cannot be merged into the weights: keep the adapter, or take it out with unwrap")

    merge_and_unload = unmerge_adapter = merge_adapter

    @contextlib.contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, adapter_names: Any = None, **kwargs: Any) -> Iterator[None]:
        if adapter_names is not None:
            raise ValueError("adapter_names= (an adapter for each sample) is not supported: use set_adapter(name)")
        yield

    def _create_and_replace(self, peft_config: Any, adapter_name: str, target: Any, *_: Any, **__: Any) -> None:
        _add_prompts(self.model, peft_config, adapter_name, target)
        if any(parameter.is_meta for parameter in target.parameters()):
            return  # PEFT's low_cpu_mem_usage: the values come from a file
        # Made on the CPU, prompts are the same under one seed whatever the device of the base model.
        target.to(self.model.logit_scale.device)
        if peft_config.ctx_init is not None:
            embedding = text_tower(self.model).embedding
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
        # PEFT only warns of missing tensors, and says nothing of too many.
        check_shapes(model.get_base_model(), config, {key: tuple(tensor.shape) for key, tensor in state_dict.items()})
        return super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)


def check_unwrapped(model: Any) -> None:
    """Refuses what is no open_clip model (TypeError), or wrapped already (ValueError)."""
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


def resolve_for(model: nn.Module, config: Any, adapter_name: str) -> PromptConfig:
    """The config of an adapter with nothing left open; a ValueError if it does not fit the model."""
    refuse_adapter_name(adapter_name)
    towers, _, _ = config.structure()
    check_attentions(model, towers)
    if config.files is None:
        check_activation(model, config.base_model, config.base_pretrained)
        config = config.replace(base_fingerprint=fingerprint(model))
    elif not check_base(model, config, config.strict_base):
        # What is learned from here on belongs to this base.
        config = config.replace(base_model=None, base_pretrained=None, base_fingerprint=fingerprint(model))
    check_towers(model, towers)
    if towers != "vision":
        text = text_tower(model)
        if config.n_ctx > text.positions - 2:
            raise ValueError(
                f"n_ctx={config.n_ctx} leaves no room for a start and an end token in the text tower's "
                f"{text.positions} positions: choose n_ctx in 1..{text.positions - 2}"
            )
        if config.ctx_init is not None and config.files is None:
            config = config.replace(ctx_init=_first_ids(config.ctx_init, text))
    config = config.resolve(*depths(model))
    if config.files is not None:
        check_shapes(model, config, config.files.shapes)
        config.files.verify()
    return config


def check_shapes(model: nn.Module, config: PromptConfig, found: dict[str, tuple[int, ...]]) -> None:
    """Refuses tensors of other shapes than a resolved config asks for on this model (ValueError)."""
    layer = PromptLayer()
    try:
        with torch.device("meta"):
            _add_prompts(model, config, "adapter", layer)
    except (RuntimeError, OverflowError) as error:  # more elements than can be counted
        raise ValueError(f"n_ctx={config.n_ctx}, n_ctx_vision={config.n_ctx_vision} are out of all range") from error
    expected = {
        "base_model.model.prompts." + key.replace(".adapter", ""): tuple(tensor.shape)
        for key, tensor in layer.state_dict().items()
    }
    problems = [f"{key} is missing" for key in expected if key not in found]
    problems += [f"{key} is one too many" for key in found if key not in expected]
    problems += [
        f"{key} is of shape {found[key]}, {shape} was expected"
        for key, shape in expected.items()
        if found.get(key, shape) != shape
    ]
    if problems:
        more = f" (and {len(problems) - 6} more)" if len(problems) > 6 else ""
        raise ValueError(
            f"the adapter's tensors do not fit its config on this model: {'; '.join(problems[:6])}{more}. Is it "
            "that of the training?"
        )


def _add_prompts(model: nn.Module, config: PromptConfig, adapter_name: str, layer: PromptLayer) -> None:
    towers = {"text": text_tower(model), "vision": vision_tower(model)}
    widths = {name: tower.width for name, tower in towers.items() if tower is not None}
    layer.add(adapter_name, config, PromptTable.of(config, *depths(model)), widths)


def _first_ids(ctx_init: str | list[int], text: Any) -> list[int]:
    if isinstance(ctx_init, str):
        if text.vocabulary != OPEN_CLIP_VOCABULARY:
            raise ValueError(
                f"ctx_init={ctx_init!r} is a text, but the vocabulary of {text.vocabulary} ids is not open_clip's own: "
                "pass wrap(..., tokenizer=tokenizer), or token ids"
            )
        return content(open_clip.SimpleTokenizer(), ctx_init)
    if max(ctx_init, default=0) >= text.vocabulary:
        raise ValueError(
            f"ctx_init has token ids up to {max(ctx_init)}, the vocabulary ends at {text.vocabulary - 1}: are they of "
            "this model's tokenizer?"
        )
    return ctx_init
