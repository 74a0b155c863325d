"""Saved adapters: `from_pretrained` and `create_model_and_transforms` load them, `push_to_hub` shares them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import open_clip
from huggingface_hub import CommitInfo
from peft import PeftModel
from torch import nn

from vilt_prompt.adapter.fitting import check_unwrapped
from vilt_prompt.adapter.names import check_adapter_name
from vilt_prompt.adapter.peft_model import PromptPeftModel
from vilt_prompt.checks import check_string
from vilt_prompt.config import names_weights
from vilt_prompt.sharing.activation import check_activation_by_name
from vilt_prompt.sharing.base_settings import building_arguments, without_overridden
from vilt_prompt.sharing.saved_config import SavedConfig, read_config

OR_BUILD = "or build the model with open_clip and use from_pretrained(model, ...)"


def from_pretrained(
    model: nn.Module,
    path_or_repo: str | os.PathLike[str],
    *,
    adapter_name: str = "default",
    is_trainable: bool = False,
    strict_base: bool = True,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> PromptPeftModel:
    """Puts a saved adapter, from a folder or the Hugging Face Hub, into an open_clip model.

    Args:
        model: The open_clip model that the adapter was trained on; patched in place.
        path_or_repo: The folder that `save_pretrained` wrote, or a repository's id such as "user/name".
        adapter_name: The adapter's name in this model.
        is_trainable: Whether training goes on; otherwise the adapter is frozen too, and the model in eval mode.
        strict_base: Whether other weights of the same architecture are an error; otherwise they are a warning.
        subfolder: Folder inside; adapters that are not called "default" are saved to one of their name.
        revision: Branch, tag or commit.
        token: For private repositories; None: that of `hf auth login`.
        cache_dir: Where downloads are kept; None: the Hub's cache.
        local_files_only: Whether to look into the cache alone.
        force_download: Whether to download anew.

    Returns:
        The PEFT model.

    Raises:
        TypeError: If `model` is no open_clip model, or `path_or_repo` no path.
        ValueError: If there is no such adapter, a file is missing or damaged, or it does not fit the model.
        OSError: If the Hub, the connection or the disk fails. The model is unchanged in all three cases.
    """
    check_unwrapped(model)
    check_adapter_name(adapter_name)
    config = read_config(
        path_or_repo,
        subfolder=subfolder,
        strict_base=strict_base,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
    )
    return _load(model, config, adapter_name, is_trainable)


def create_model_and_transforms(
    path_or_repo: str | os.PathLike[str],
    *,
    adapter_name: str = "default",
    is_trainable: bool = False,
    strict_base: bool = True,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    base_model: str | None = None,
    base_pretrained: str | None = None,
    **model_arguments: Any,
) -> tuple[PromptPeftModel, Callable[..., Any], Callable[..., Any]]:
    """Builds the open_clip model that an adapter names as its base, and puts the adapter in.

    Args:
        path_or_repo: As for `from_pretrained`.
        adapter_name: As there.
        is_trainable: As there.
        strict_base: As there.
        subfolder: As there.
        revision: As there.
        token: As there.
        cache_dir: As there, and for the base.
        local_files_only: As there.
        force_download: As there.
        base_model: open_clip's name of the base, in place of the one that the adapter names.
        base_pretrained: Its tag or file of weights, likewise.
        model_arguments: For `open_clip.create_model_and_transforms`, such as `precision` or `force_image_size`. They
            win over the settings that the adapter records of its base; all others are built as recorded.

    Returns:
        The PEFT model, open_clip's transform of images for inference, and the tokenizer.

    Raises:
        TypeError: If `base_model` or `base_pretrained` is no string, or passed as `model_name` or `pretrained`.
        ValueError: If the adapter does not name its base, open_clip cannot build it or would build it with another
            activation than its weights need, or the adapter cannot be loaded.
        OSError: If the Hub, the connection or the disk fails.
    """
    check_adapter_name(adapter_name)
    check_string("base_model", base_model)
    check_string("base_pretrained", base_pretrained)
    config = read_config(
        path_or_repo,
        subfolder=subfolder,
        strict_base=strict_base,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
    )
    name = base_model or config.base_model
    weights = base_pretrained or (config.base_pretrained if name == config.base_model else None)
    if not name:
        raise ValueError(
            f"the adapter {path_or_repo} does not record its base: base_model is missing in its config. Pass "
            f"base_model= (and base_pretrained=), {OR_BUILD}"
        )
    if not names_weights(name, weights):
        where = "its config" if name == config.base_model else "this call"
        raise ValueError(
            f"the base of the adapter {path_or_repo} is given by its architecture {name!r}, but not by its weights: "
            f"base_pretrained is missing in {where}. Pass base_pretrained=, {OR_BUILD}"
        )
    if {"pretrained", "model_name"} & {*model_arguments}:
        raise TypeError("model_name and pretrained are called base_model and base_pretrained here: pass those")
    settings_of_base = config.base_settings or {}
    arguments = {**building_arguments(settings_of_base), **model_arguments}
    if settings_of_base:
        config.base_settings = without_overridden(settings_of_base, model_arguments)
    try:
        check_activation_by_name(name, weights, arguments.get("force_quick_gelu", False))
    except ValueError as error:
        message = f"{error}: pass base_model= to build another base than the adapter {path_or_repo} names"
        if strict_base:
            raise ValueError(f"{message}, or strict_base=False if it was trained on such a model") from error
        warnings.warn(f"{message}. It is built all the same (strict_base=False)", stacklevel=2)
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=weights, cache_dir=cache_dir, **arguments
        )
        tokenizer = open_clip.get_tokenizer(
            name, context_length=arguments.get("force_context_length"), cache_dir=cache_dir
        )
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"open_clip cannot build {name!r} with weights {weights!r}, the base of the adapter {path_or_repo}: "
            f"{error}. Pass base_model= and base_pretrained= of the same weights, {OR_BUILD}"
        ) from error
    return _load(model.train(is_trainable), config, adapter_name, is_trainable), preprocess, tokenizer


def _load(model: nn.Module, config: SavedConfig, adapter_name: str, is_trainable: bool) -> PromptPeftModel:
    assert config.files is not None  # just read
    source = config.files.source
    wrapped = PromptPeftModel.from_pretrained(model, source, adapter_name, is_trainable=is_trainable, config=config)
    return cast(PromptPeftModel, wrapped)


def push_to_hub(
    wrapped: PeftModel,
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
    """Shares an adapter on the Hugging Face Hub: config, tensors and a model card, in one commit.

    They go to the repository's root, whatever the adapter's name.

    Args:
        wrapped: What `wrap` or `from_pretrained` returned.
        repo_id: Such as "user/ucf101-16shot"; the repository is made if there is none.
        adapter_name: None: the active one.
        private: Whether a new repository is private; None: as the Hub does by default.
        token: Of a user who may write; None: that of `hf auth login`.
        revision: Branch, made if there is none; None: the main one.
        create_pr: Whether to open a pull request instead.
        commit_message: First line of the commit.
        class_names: Those of the training. For the model card, as all that follows; a README that is there is kept.
        template: The hand-crafted prompt of the scenario-guided term.
        metrics: Names and values, such as {"top-1 accuracy": 93.1}.
        dataset: Of training and metrics; a dataset's id on the Hub is linked.
        license: An identifier of the Hub, such as "mit".

    Returns:
        The commit, with its `oid`, `commit_url` and `pr_url`.

    Raises:
        TypeError: If `wrapped` is no wrapped model, or something for the card is of the wrong type.
        ValueError: If the adapter cannot be saved, or the repository not be written to.
        OSError: If the Hub or the connection fails; the branch is unchanged.
    """
    if not isinstance(wrapped, PromptPeftModel):
        raise TypeError(f"expected what wrap() returned, got {type(wrapped).__name__}")
    return wrapped.push_to_hub(
        repo_id,
        adapter_name=adapter_name,
        private=private,
        token=token,
        revision=revision,
        create_pr=create_pr,
        commit_message=commit_message,
        class_names=class_names,
        template=template,
        metrics=metrics,
        dataset=dataset,
        license=license,
    )
