"""`wrap` puts new prompts into an open_clip model, `unwrap` takes prompts out."""

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
    check_adapter_name(adapter_name)  # PEFT's own look at it takes strings alone
    # PEFT makes the class that is registered for the task type of the config.
    return cast(PromptPeftModel, get_peft_model(model, PromptConfig(K=K, n_ctx=n_ctx, **config), adapter_name))


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
