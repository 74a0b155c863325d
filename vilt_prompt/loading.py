"""Load saved adapters with `from_pretrained` and `create_model_and_transforms`, and share them with `push_to_hub`."""

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
from vilt_prompt.sharing.errors import AdapterIOError
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
    """Load an adapter from a folder or the Hugging Face Hub into an open_clip model.

    Args:
        model: The open_clip model that the adapter was trained on, which is patched in place.
        path_or_repo: The folder that `save_pretrained` wrote, or a repository id such as "user/name".
        adapter_name: The adapter's name in this model.
        is_trainable: Whether the adapter will be trained further. If not, it is frozen, and the model is put in eval
            mode.
        strict_base: Whether a base model with the same architecture but other weights is an error. If not, it is a
            warning.
        subfolder: A folder inside `path_or_repo`. `save_pretrained` saves an adapter that is not called "default" to a
            subfolder of its name.
        revision: A branch, tag or commit.
        token: Access token for private repositories. None: the token of `hf auth login`.
        cache_dir: Folder for downloads. None: the Hub's cache.
        local_files_only: Whether to use only files that are in the cache.
        force_download: Whether to download files again that are in the cache.

    Returns:
        The PEFT model.

    Raises:
        TypeError: If `model` is not an open_clip model, or `path_or_repo` is not a path.
        ValueError: If there is no such adapter, a file is missing or damaged, or it does not fit the model.
        OSError: If the Hub, the connection or the disk fails. After any of these errors the model is unchanged.
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
    """Build the open_clip model that an adapter was trained on, and load the adapter into it.

    Args:
        path_or_repo: The folder that `save_pretrained` wrote, or a repository id such as "user/name".
        adapter_name: The adapter's name in this model.
        is_trainable: Whether the adapter will be trained further. If not, it is frozen, and the model is put in eval
            mode.
        strict_base: Whether a base model with the same architecture but other weights is an error. If not, it is a
            warning.
        subfolder: A folder inside `path_or_repo`.
        revision: A branch, tag or commit.
        token: Access token for private repositories. None: the token of `hf auth login`.
        cache_dir: Folder for downloads of the adapter and of the base model. None: the Hub's cache.
        local_files_only: Whether to use only files that are in the cache.
        force_download: Whether to download files again that are in the cache.
        base_model: open_clip's name of the base model. None: the name that the adapter records.
        base_pretrained: The tag of the base model's weights, or a file. None: the tag that the adapter records.
        model_arguments: Arguments for `open_clip.create_model_and_transforms`, such as `precision` or
            `force_image_size`. They override the settings of the base model that the adapter records.

    Returns:
        The PEFT model, open_clip's image transform for inference, and the tokenizer.

    Raises:
        TypeError: If `base_model` or `base_pretrained` is not a string, or is passed under open_clip's name
            `model_name` or `pretrained`.
        ValueError: If the adapter does not name its base, open_clip cannot build it or would build it with another
            activation than its weights need, or the adapter cannot be loaded.
        OSError: If the Hub, the connection or the disk fails.
    """
    if {"pretrained", "model_name"} & {*model_arguments}:
        raise TypeError("model_name and pretrained are called base_model and base_pretrained here: pass those")
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
        kind = AdapterIOError if _has_os_error(error) else ValueError
        way_out = f"Pass base_model= and base_pretrained= of the same weights, {OR_BUILD}"
        if isinstance(error, TypeError) and model_arguments:
            way_out = f"Check the arguments for open_clip: {', '.join(model_arguments)}"
        raise kind(
            f"open_clip cannot build {name!r} with weights {weights!r}, the base of the adapter {path_or_repo}: "
            f"{error}. {way_out}"
        ) from error
    return _load(model.train(is_trainable), config, adapter_name, is_trainable), preprocess, tokenizer


def _load(model: nn.Module, config: SavedConfig, adapter_name: str, is_trainable: bool) -> PromptPeftModel:
    assert config.files is not None  # just read
    source = config.files.source
    # PEFT makes the model, which checks the files against the base model before it changes it (`inject_adapter`), and
    # calls its `load_adapter`, which takes the tensors from the config's files.
    wrapped = PromptPeftModel.from_pretrained(model, source, adapter_name, is_trainable=is_trainable, config=config)
    return cast(PromptPeftModel, wrapped)


def _has_os_error(error: BaseException | None) -> bool:
    """Whether an error is an OSError, or was raised because of one. open_clip wraps errors of its downloads."""
    return error is not None and (isinstance(error, OSError) or _has_os_error(error.__cause__ or error.__context__))


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
    """Share an adapter on the Hugging Face Hub: config, tensors and a model card, in one commit.

    The files go to the root of the repository, whatever the adapter's name. An existing model card is kept.

    Args:
        wrapped: A model that `wrap` or `from_pretrained` returned.
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
        dataset: The dataset of training and metrics, for the model card. The id of a dataset on the Hub becomes a link.
        license: The licence of the adapter as the Hub's identifier, such as "mit".

    Returns:
        The commit, with its `oid`, `commit_url` and `pr_url`.

    Raises:
        TypeError: If `wrapped` is not a wrapped model, or an argument for the model card is of the wrong type.
        ValueError: If the adapter cannot be saved, or the repository cannot be written to.
        OSError: If the Hub or the connection fails. The branch is unchanged.
    """
    if not isinstance(wrapped, PromptPeftModel):
        raise TypeError(f"expected a model that wrap() returned, got {type(wrapped).__name__}")
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
