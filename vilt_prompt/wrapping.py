"""`wrap` puts new prompts into an open_clip model, and `unwrap` removes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from vilt_prompt.adapter.fitting import check_unwrapped
from vilt_prompt.adapter.names import check_adapter_name
from vilt_prompt.adapter.peft_model import PromptPeftModel
from vilt_prompt.adapter.tuner import PromptTuner
from vilt_prompt.config import PromptConfig, check_settings, settings
from vilt_prompt.tokenization import content
from vilt_prompt.towers.families import check_towers


def wrap(
    model: nn.Module,
    K: int | None = 6,
    n_ctx: int = 10,
    *,
    adapter_name: str = "default",
    tokenizer: Callable[[list[str]], Tensor] | None = None,
    **config: Any,
) -> PromptPeftModel:
    """Put learnable prompts into the towers of an open_clip model (Eq. 10 and 11), and freeze everything else.

    A tower is the image encoder or the text encoder. The call is the same as
    `peft.get_peft_model(model, PromptConfig(K=K, n_ctx=n_ctx, **config), adapter_name)`. The model is patched in place:
    afterwards its own `encode_image` and `encode_text` return prompted features too.

    Args:
        model: An open_clip model.
        K: The last layer in which text leads; vision leads in the layers after it. None: half of the depth.
        n_ctx: Number of prompt vectors in each layer.
        adapter_name: The name of the adapter, if the model is to have several.
        tokenizer: The model's tokenizer. It is needed only for a `ctx_init` text, and only if the vocabulary is not
            open_clip's own.
        config: Other settings of `PromptConfig`: `method`, such as "maple", `depth`, `ctx_init` and more. `base_model`
            and `base_pretrained`, the model's name and tag in open_clip, are recorded in the adapter, so that
            `create_model_and_transforms` can build the model.

    Returns:
        The PEFT model, with `encode_video`, `encode_image`, `encode_text`, `forward` and `layer_prompts`.

    Raises:
        TypeError: If `model` is not an open_clip model, or a setting is unknown or of the wrong type.
        ValueError: If the model is wrapped already, a setting does not fit it, or it has GELU although the weights of
            `base_model` and `base_pretrained` need QuickGELU. The model is unchanged.
    """
    check_unwrapped(model)
    check_settings("wrap", [*config], settings())
    if tokenizer is not None and isinstance(config.get("ctx_init"), str):
        check_towers(model, "text")
        config["ctx_init"] = content(tokenizer, config["ctx_init"])
    check_adapter_name(adapter_name)  # before PEFT's own check, which fails on a name that is not a string
    # PEFT returns the class that is registered for the task type of the config.
    return cast(PromptPeftModel, get_peft_model(model, PromptConfig(K=K, n_ctx=n_ctx, **config), adapter_name))


def unwrap(wrapped: PeftModel) -> nn.Module:
    """Remove the prompts, and restore outputs, state dict keys, `requires_grad` and training mode as before `wrap`.

    Args:
        wrapped: A model that `wrap`, `from_pretrained` or `convert` returned.

    Returns:
        The open_clip model, as it was before it was wrapped.

    Raises:
        TypeError: If `wrapped` is not such a model, or was unwrapped before.
    """
    tuner = getattr(wrapped, "base_model", None)
    # If the model was unwrapped and wrapped again, its prompts belong to another tuner than this one.
    if not isinstance(tuner, PromptTuner) or not tuner.is_in_place():
        raise TypeError(f"expected a model that wrap() returned, still wrapped, got {type(wrapped).__name__}")
    return tuner.unload()
