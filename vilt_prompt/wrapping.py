"""An open_clip model in, a PEFT model out, with new prompts or saved ones, and back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import open_clip
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from vilt_prompt.adapter.peft_model import PromptPeftModel
from vilt_prompt.adapter.tuner import PromptTuner, check_unwrapped
from vilt_prompt.checks import check_string
from vilt_prompt.config import PromptConfig, check_settings, names_weights, settings
from vilt_prompt.prompts import refuse_adapter_name
from vilt_prompt.sharing.base_settings import check_activation_by_name
from vilt_prompt.towers.families import check_towers
from vilt_prompt.towers.token_ids import content

OR_BUILD = "or build the model with open_clip and use from_pretrained(model, ...)"


def wrap(
    model: nn.Module,
    K: int | None = 6,
    n_ctx: int = 10,
    *,
    adapter_name: str = "default",
    tokenizer: Callable[[list[str]], Tensor] | None = None,
    **config: Any,
) -> PeftModel:
    """Puts learnable prompts into both towers of an open_clip model (Eq. 10 and 11), and freezes everything else.

    The same as `peft.get_peft_model(model, PromptConfig(K=K, n_ctx=n_ctx, **config), adapter_name)`. The model is
    patched in place: its own `encode_image` and `encode_text` give prompted features then.

    Args:
        model: An open_clip model.
        K: Text leads in layers 1..K, vision in the rest. None: half of the depth.
        n_ctx: Number of prompt vectors for each layer.
        adapter_name: For several adapters in one model.
        tokenizer: The model's, needed for a `ctx_init` text where the vocabulary is not open_clip's own.
        config: The other settings of `PromptConfig`.

    Returns:
        The PEFT model, with `encode_video`, `encode_image`, `encode_text`, `forward` and `layer_prompts`.

    Raises:
        TypeError: If `model` is no open_clip model, or a setting is unknown or of the wrong type.
        ValueError: If the model is wrapped already, a setting does not fit it, or it has GELU where the weights of
            `base_model` and `base_pretrained` need QuickGELU. The model is unchanged then.
    """
    check_unwrapped(model)
    check_settings("wrap", [*config], settings())
    if tokenizer is not None and isinstance(config.get("ctx_init"), str):
        check_towers(model, "text")
        config["ctx_init"] = content(tokenizer, config["ctx_init"])
    refuse_adapter_name(adapter_name)  # PEFT's own look at it takes strings alone
    return get_peft_model(model, PromptConfig(K=K, n_ctx=n_ctx, **config), adapter_name)


def unwrap(wrapped: PeftModel) -> nn.Module:
    """The open_clip model that was wrapped, with outputs, keys, `requires_grad` and mode as before `wrap`.

    Args:
        wrapped: What `wrap` or one of the ways of loading returned.

    Raises:
        TypeError: If it is something else, or was unwrapped before.
    """
    tuner = getattr(wrapped, "base_model", None)
    # A model that was wrapped anew has prompts of another tuner.
    if not isinstance(tuner, PromptTuner) or not tuner.is_in_place():
        raise TypeError(f"expected what wrap() returned, still wrapped, got {type(wrapped).__name__}")
    return tuner.unload()


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
) -> PeftModel:
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
    refuse_adapter_name(adapter_name)
    config = PromptConfig.from_pretrained(
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
) -> tuple[PeftModel, Callable[..., Any], Callable[..., Any]]:
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
        model_arguments: For `open_clip.create_model_and_transforms`, such as `precision` or `force_image_size`.

    Returns:
        The PEFT model, open_clip's transform of images for inference, and the tokenizer.

    Raises:
        TypeError: If `base_model` or `base_pretrained` is no string, or passed as `model_name` or `pretrained`.
        ValueError: If the adapter does not name its base, open_clip cannot build it or would build it with another
            activation than its weights need, or the adapter cannot be loaded.
        OSError: If the Hub, the connection or the disk fails.
    """
    refuse_adapter_name(adapter_name)
    check_string("base_model", base_model)
    check_string("base_pretrained", base_pretrained)
    config = PromptConfig.from_pretrained(
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
    try:
        check_activation_by_name(name, weights, model_arguments.get("force_quick_gelu", False))
    except ValueError as error:
        message = f"{error}: pass base_model= to build another base than the adapter {path_or_repo} names"
        if strict_base:
            raise ValueError(f"{message}, or strict_base=False if it was trained on such a model") from error
        warnings.warn(f"{message}. It is built all the same (strict_base=False)", stacklevel=2)
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=weights, cache_dir=cache_dir, **model_arguments
        )
        tokenizer = open_clip.get_tokenizer(
            name, context_length=model_arguments.get("force_context_length"), cache_dir=cache_dir
        )
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"open_clip cannot build {name!r} with weights {weights!r}, the base of the adapter {path_or_repo}: "
            f"{error}. Pass base_model= and base_pretrained= of the same weights, {OR_BUILD}"
        ) from error
    return _load(model.train(is_trainable), config, adapter_name, is_trainable), preprocess, tokenizer


def _load(model: nn.Module, config: Any, adapter_name: str, is_trainable: bool) -> PeftModel:
    source = config.files.source
    return PromptPeftModel.from_pretrained(model, source, adapter_name, is_trainable=is_trainable, config=config)
