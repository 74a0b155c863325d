"""Saving the adapters of a wrapped model to a folder, and pushing them to the Hub."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import CommitInfo
from torch import Tensor

from vilt_prompt.adapter.fitting import check_equal_shapes
from vilt_prompt.adapter.layer import SAVED_PREFIX, key_of
from vilt_prompt.adapter.several import SeveralAdapters
from vilt_prompt.config import JsonObject
from vilt_prompt.sharing.base_place import for_folder, for_others
from vilt_prompt.sharing.card import FACTS, TrainingFacts, model_card
from vilt_prompt.sharing.files import CARD_NAME, check_numbers, shapes_of, write
from vilt_prompt.sharing.hub import push
from vilt_prompt.sharing.quantization import check_unquantized
from vilt_prompt.towers.sharding import check_whole


class SavingMethods(SeveralAdapters):
    """The methods of `PromptPeftModel` that save adapters, and share them."""

    def save_pretrained(
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
                `state_dict`, or `safe_serialization` is False.
            OSError: If the disk is full or fails.
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
            card = model_card(config, tensors, facts, _name_of(folder))
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

    def push_to_hub(
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

        The same as `vilt_prompt.push_to_hub(model, ...)`, which explains the arguments, the result and the errors.
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
            lambda full_id: model_card(config, tensors, facts, full_id, is_repository=True),
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
            path.write_text(model_card(config, tensors, TrainingFacts(), _name_of(path.parent)), encoding="utf-8")


def _name_of(folder: Path) -> str:
    """Return a folder's own name, for its card. The root has none, and bytes that are not UTF-8 become "?"."""
    name = os.path.basename(os.path.abspath(folder)) or "adapter"
    return name.encode(errors="replace").decode()


def _has_another_card(folder: Path, card: str) -> bool:
    """Whether a folder's card has other facts. Its name may differ, because folders are copied and moved."""
    path = folder / CARD_NAME
    return (
        path.exists()
        and path.read_text(encoding="utf-8", errors="replace").partition(FACTS)[2] != card.partition(FACTS)[2]
    )
