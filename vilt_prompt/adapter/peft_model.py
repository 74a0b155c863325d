"""The `PeftModel` around a prompted open_clip model, with the library's own saving, loading and sharing."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CommitInfo
from peft import PeftModel, peft_model
from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from torch import Tensor, nn

from vilt_prompt.adapter import hotswap
from vilt_prompt.adapter.fitting import check_equal_shapes, differences, resolve_for
from vilt_prompt.adapter.forwarded import Forwarded
from vilt_prompt.adapter.layer import PREFIX, SAVED_PREFIX, key_of
from vilt_prompt.adapter.several import SeveralAdapters
from vilt_prompt.adapter.trainer import ModelConfig, TrainerMethods
from vilt_prompt.adapter.tuner import PromptTuner
from vilt_prompt.config import PEFT_TYPE, TASK_TYPE, JsonObject, PromptConfig, check_settings
from vilt_prompt.model.prompted import PromptedModel
from vilt_prompt.sharing.base_place import for_folder, for_others
from vilt_prompt.sharing.card import TrainingFacts, model_card
from vilt_prompt.sharing.files import CARD_NAME, AdapterFiles, check_numbers, shapes_of, write
from vilt_prompt.sharing.hub import HUB_ARGUMENTS, push
from vilt_prompt.sharing.quantization import check_unquantized
from vilt_prompt.sharing.saved_config import SavedConfig, read_config
from vilt_prompt.towers.sharding import check_whole

try:
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
except ImportError:  # PEFT before 0.15
    from peft.utils.constants import PEFT_TYPE_TO_PREFIX_MAPPING  # type: ignore[attr-defined,no-redef]


class LoadResult(NamedTuple):
    """The result of `load_adapter` that PEFT expects. Both lists are empty, or loading would have raised an error."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class PromptPeftModel(SeveralAdapters, TrainerMethods, Forwarded, PeftModel):
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

    def save_pretrained(  # type: ignore[override]  # PEFT's other arguments are for conversions of LoRA
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        selected_adapters: list[str] | None = None,
        save_embedding_layers: object = "auto",
        is_main_process: bool = True,
        *,
        state_dict: dict[str, Tensor] | None = None,
        class_names: Sequence[str] | None = None,
        template: str | None = None,
        metrics: Mapping[str, float] | None = None,
        dataset: str | None = None,
        license: str | None = None,  # noqa: A002
    ) -> None:
        """Save adapters, each to a folder of its own with a model card.

        If the process dies at any moment, a folder contains either the previous adapter or the new one, complete.

        Args:
            save_directory: The folder of the adapter "default". The other adapters go to subfolders of their names.
            safe_serialization: Must be True, because pickles are refused.
            selected_adapters: The names of the adapters to save. None: all adapters.
            save_embedding_layers: PEFT's argument, without effect.
            is_main_process: Whether this process writes the files. If not, it only checks the arguments.
            state_dict: The model's state dict with whole tensors, if its parameters are in shards on several processes.
                Only the main process needs it.
            class_names: The names of the classes in training, for the config and the model card. None: the names that
                `wrap` was given.
            template: The hand-crafted prompt of the scenario-guided term, for the config and the model card. None: the
                template that `wrap` was given.
            metrics: Names and values for the model card, such as {"top-1 accuracy": 93.1}.
            dataset: The dataset of training and metrics, for the model card.
            license: The licence of the adapter as the Hub's identifier, for the model card.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If there is no such adapter, its tensors are not finite, are quantised, or are in shards without
                `state_dict`, or a pickle is asked for.
            OSError: If the disk is full or refuses.
        """
        if not safe_serialization:
            raise ValueError("adapters are saved as safetensors alone, never as pickles: leave safe_serialization=True")
        if not isinstance(save_directory, str | os.PathLike):
            raise TypeError(f"save_directory must be a folder, got {save_directory!r}")
        if isinstance(selected_adapters, str):
            raise TypeError(
                f"selected_adapters must be a list of names, such as {[selected_adapters]!r}, got {selected_adapters!r}"
            )
        if os.path.isfile(save_directory):
            raise ValueError(f"{save_directory} is a file: give a folder")
        facts = TrainingFacts(class_names, template, metrics, dataset, license)
        names = list(self.peft_config) if selected_adapters is None else selected_adapters
        if not is_main_process:
            for name in names:
                self._check_known(name)
                if state_dict is None:
                    check_whole(self.prompts.tensors(name), self.prompts.shapes[name], is_main_process=False)
            return
        contents = {name: self.adapter_content(name, state_dict) for name in names}
        for name, (config, tensors) in contents.items():
            folder = Path(save_directory, "" if name == "default" else name)
            config = facts.recorded(config)
            card = model_card(config, tensors, facts)
            if facts and _has_another_card(folder, card):
                warnings.warn(
                    f"{folder / CARD_NAME} is there and kept: class names, metrics and the like are not in it. Delete "
                    "it and save again for a new one",
                    stacklevel=2,
                )
            write(folder, for_folder(config, folder), tensors, card)

    def adapter_content(
        self, adapter_name: str, state_dict: dict[str, Tensor] | None = None
    ) -> tuple[JsonObject, dict[str, Tensor]]:
        """The fields of an adapter's config, and its tensors, as they are saved: by keys without the adapter's name."""
        self._check_known(adapter_name)
        config = self.peft_config[adapter_name]
        own, shapes = self.prompts.tensors(adapter_name), self.prompts.shapes[adapter_name]
        for name, parameter in own.items():
            check_unquantized(parameter, f"adapter {adapter_name!r}: {name}")
        if state_dict is None:
            check_whole(own, shapes)
            tensors = {SAVED_PREFIX + name: parameter.detach() for name, parameter in own.items()}
        else:
            keys = {name: SAVED_PREFIX + key_of(name, adapter_name) for name in own}
            tensors = {SAVED_PREFIX + name: state_dict[key] for name, key in keys.items() if key in state_dict}
        # The base may be sharded, so the expected shapes are the adapter's own.
        check_equal_shapes({SAVED_PREFIX + name: shape for name, shape in shapes.items()}, shapes_of(tensors))
        check_numbers(tensors, f"adapter {adapter_name!r}")
        return {**config.to_dict(), "inference_mode": True}, tensors

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

    def push_to_hub(  # type: ignore[override]  # PEFT's own takes the arguments of transformers
        self,
        repo_id: str,
        *,
        adapter_name: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str = "Upload prompts",
        class_names: Sequence[str] | None = None,
        template: str | None = None,
        metrics: Mapping[str, float] | None = None,
        dataset: str | None = None,
        license: str | None = None,  # noqa: A002
    ) -> CommitInfo:
        """Share an adapter on the Hugging Face Hub: config, tensors and a model card, in one commit.

        The files go to the root of the repository, whatever the adapter's name. A model card that is there is kept.

        Args:
            repo_id: The repository, such as "user/ucf101-16shot". It is created if it does not exist.
            adapter_name: The adapter. None: the active adapter.
            private: Whether a new repository is private. None: the Hub's default.
            token: Access token of a user who may write. None: the token of `hf auth login`.
            revision: The branch, which is created if it does not exist. None: the main branch.
            create_pr: Whether to open a pull request instead of committing to the branch.
            commit_message: The first line of the commit message.
            class_names: The names of the classes in training, for the config and the model card. None: the names that
                `wrap` was given.
            template: The hand-crafted prompt of the scenario-guided term, for the config and the model card. None: the
                template that `wrap` was given.
            metrics: Names and values for the model card, such as {"top-1 accuracy": 93.1}.
            dataset: The dataset of training and metrics, for the model card. The id of a dataset on the Hub becomes a
                link.
            license: The licence of the adapter as the Hub's identifier, such as "mit".

        Returns:
            The commit, with its `oid`, `commit_url` and `pr_url`.

        Raises:
            TypeError: If `repo_id` is not a string, or an argument for the model card is of the wrong type.
            ValueError: If the adapter cannot be saved, or the repository cannot be written to.
            OSError: If the Hub or the connection fails. The branch is unchanged then.
        """
        if not isinstance(repo_id, str):
            raise TypeError(f'repo_id must be a string such as "user/ucf101-16shot", got {repo_id!r}')
        facts = TrainingFacts(class_names, template, metrics, dataset, license)
        config, tensors = self.adapter_content(self.active_adapter if adapter_name is None else adapter_name)
        config = for_others(facts.recorded(config))
        return push(
            repo_id,
            config,
            tensors,
            lambda full_id: model_card(config, tensors, facts, full_id),
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
            is_card_filled=bool(facts),
        )

    def create_or_update_model_card(self, output_dir: str) -> None:
        """Write the active adapter's model card to a folder that has no README. transformers' `Trainer` calls it."""
        path = Path(output_dir, CARD_NAME)
        if not path.exists():
            config, tensors = self.adapter_content(self.active_adapter)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(model_card(config, tensors, TrainingFacts()), encoding="utf-8")

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


def _has_another_card(folder: Path, card: str) -> bool:
    path = folder / CARD_NAME
    return path.exists() and path.read_bytes() != card.encode()


# PEFT finds the classes of an adapter in these tables. They accept a type that is not PEFT's.
KEY: Any = PEFT_TYPE
PEFT_TYPE_TO_CONFIG_MAPPING[KEY] = PromptConfig
PEFT_TYPE_TO_TUNER_MAPPING[KEY] = PromptTuner
PEFT_TYPE_TO_PREFIX_MAPPING[KEY] = PREFIX
MODEL_TYPE_TO_PEFT_MODEL_MAPPING[TASK_TYPE] = PromptPeftModel
# PEFT before 0.15 has a table of its own in this module.
getattr(peft_model, "PEFT_TYPE_TO_MODEL_MAPPING", {})[KEY] = PromptTuner
