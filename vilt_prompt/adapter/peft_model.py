"""The `PeftModel` around a prompted open_clip model: its loading, and the tables in which PEFT finds its classes."""

from __future__ import annotations

import inspect
import os
from typing import Any, NamedTuple

from peft import PeftModel, peft_model
from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from torch import nn

from vilt_prompt.adapter import hotswap
from vilt_prompt.adapter.fitting import differences, resolve_for
from vilt_prompt.adapter.forwarded import Forwarded
from vilt_prompt.adapter.layer import PREFIX, SAVED_PREFIX
from vilt_prompt.adapter.saving import SavingMethods
from vilt_prompt.adapter.trainer import ModelConfig, TrainerMethods
from vilt_prompt.adapter.tuner import PromptTuner
from vilt_prompt.config import PEFT_TYPE, TASK_TYPE, PromptConfig, check_settings
from vilt_prompt.model.prompted import PromptedModel
from vilt_prompt.sharing.files import AdapterFiles
from vilt_prompt.sharing.hub import HUB_ARGUMENTS
from vilt_prompt.sharing.saved_config import SavedConfig, read_config

try:
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
except ImportError:  # PEFT before 0.15
    from peft.utils.constants import PEFT_TYPE_TO_PREFIX_MAPPING  # type: ignore[attr-defined,no-redef]


class LoadResult(NamedTuple):
    """The result of `load_adapter` that PEFT expects. Both lists are empty, or loading would have raised an error."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class PromptPeftModel(  # type: ignore[misc]  # saving and pushing have no arguments for conversions of LoRA
    SavingMethods, TrainerMethods, Forwarded, PeftModel
):
    """PEFT's model around a prompted open_clip model.

    `wrap`, `from_pretrained`, `convert` and `create_model_and_transforms` return it. The methods of the open_clip model
    inside, such as `encode_video`, are its methods too.
    """

    # Files whose values are not in the model yet, and the config of their adapter: PEFT's `from_pretrained` makes the
    # model first and calls `load_adapter` next.
    _awaited: tuple[AdapterFiles, PromptConfig] | None = None

    def __init__(
        self, model: nn.Module, peft_config: PromptConfig, adapter_name: str = "default", **kwargs: Any
    ) -> None:
        super().__init__(model, peft_config, adapter_name, **kwargs)
        self.config = ModelConfig()
        hotswap.serve_prompts(PromptPeftModel._replace_values)
        if isinstance(peft_config, SavedConfig) and peft_config.files is not None:
            self._awaited = peft_config.files, self.peft_config[adapter_name]

    def get_base_model(self) -> PromptedModel:
        """The open_clip model inside."""
        model: PromptedModel = self.base_model.model
        return model

    def load_adapter(  # type: ignore[override]  # PEFT's other arguments are handed on
        self,
        model_id: str | os.PathLike[str],
        adapter_name: str,
        is_trainable: bool = False,
        *,
        strict_base: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Load a saved adapter in addition to the model's adapters, or into an adapter with the same structure.

        Args:
            model_id: A folder or a repository id.
            adapter_name: The adapter's name in this model. It does not become active.
            is_trainable: Whether the adapter will be trained.
            strict_base: Whether a base model with other weights is an error. If not, it is a warning.
            kwargs: `subfolder`, `revision`, `token`, `cache_dir`, `local_files_only` and `force_download` of
                `vilt_prompt.from_pretrained`, and PEFT's own arguments.

        Raises:
            TypeError: If an argument is unknown or of the wrong type.
            ValueError: If there is no such adapter, or it is damaged or does not fit. The model is unchanged.
        """
        # PEFT's own method ignores unknown arguments, such as a misspelt strict_base.
        known = [
            name for name in inspect.signature(PeftModel.load_adapter).parameters if name not in ("self", "kwargs")
        ]
        check_settings("load_adapter", [*kwargs], ["strict_base", "subfolder", *HUB_ARGUMENTS, *known])
        for_the_hub = {name: kwargs[name] for name in ("subfolder", *HUB_ARGUMENTS) if name in kwargs}
        files = self._awaited_files(model_id, adapter_name)
        if files is None:
            saved = read_config(model_id, strict_base=strict_base, **for_the_hub)
            saved.inference_mode = not is_trainable
            files = saved.files
            assert files is not None  # just read
            if adapter_name in self.peft_config:
                self.peft_config[adapter_name] = self._replacement(adapter_name, saved)
            else:
                self.add_adapter(adapter_name, saved, low_cpu_mem_usage=kwargs.get("low_cpu_mem_usage", False))
                if is_trainable:
                    self.set_requires_grad(adapter_name)
        self._fill(adapter_name, files, in_float32=kwargs.get("autocast_adapter_dtype", True))
        if not is_trainable:
            self.eval()
        return LoadResult([], [])

    def _awaited_files(self, model_id: str | os.PathLike[str], adapter_name: str) -> AdapterFiles | None:
        """The files that were read when this model was made, if the same adapter is loaded now."""
        if self._awaited is None:
            return None
        files, config = self._awaited
        if self.peft_config.get(adapter_name) is not config or files.source != os.fspath(model_id):
            return None
        self._awaited = None
        return files if files.are_unchanged() else None

    def _replace_values(self, adapter_name: str, saved: SavedConfig) -> None:
        """Replace the values of an adapter, for PEFT's `hotswap_adapter`. Compiled graphs go on with them.

        The parameters stay the same objects, of the same precision, frozen or trainable as before. If the adapter does
        not exist, or the saved one does not fit, it is a ValueError, and the model is unchanged.
        """
        self._check_known(adapter_name)
        assert saved.files is not None  # just read
        saved.inference_mode = self.peft_config[adapter_name].inference_mode
        self.peft_config[adapter_name] = self._replacement(adapter_name, saved)
        self._fill(adapter_name, saved.files, in_float32=False)

    def _fill(self, adapter_name: str, files: AdapterFiles, in_float32: bool) -> None:
        tensors = {key.removeprefix(SAVED_PREFIX): tensor for key, tensor in files.tensors.items()}
        device = self.get_base_model().logit_scale.device
        self.prompts.fill(adapter_name, tensors, device, in_float32=in_float32)

    def _replacement(self, adapter_name: str, config: PromptConfig) -> PromptConfig:
        present, resolved = self.peft_config[adapter_name], resolve_for(self.get_base_model(), config, adapter_name)
        different = differences(present, resolved)
        if different:
            raise ValueError(
                f"there is an adapter {adapter_name!r} of another structure ({different}): choose another name, or "
                "delete it first"
            )
        return resolved


# PEFT finds the classes of an adapter in these tables. They accept a type that is not PEFT's.
KEY: Any = PEFT_TYPE
PEFT_TYPE_TO_CONFIG_MAPPING[KEY] = PromptConfig
PEFT_TYPE_TO_TUNER_MAPPING[KEY] = PromptTuner
PEFT_TYPE_TO_PREFIX_MAPPING[KEY] = PREFIX
MODEL_TYPE_TO_PEFT_MODEL_MAPPING[TASK_TYPE] = PromptPeftModel
# PEFT before 0.15 has a table of its own in this module.
getattr(peft_model, "PEFT_TYPE_TO_MODEL_MAPPING", {})[KEY] = PromptTuner
