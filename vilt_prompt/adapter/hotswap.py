"""PEFT's function `hotswap_adapter` for prompts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from vilt_prompt.adapter.layer import PREFIX
from vilt_prompt.config import PEFT_TYPE


def serve_prompts(replace_values: Callable[[Any, str, Any], None]) -> None:
    """Let PEFT's `hotswap_adapter` replace the values of prompts. Its own code for that sets LoRA's ranks and scalings.

    PEFT has no hook for it, so the function that puts values into a model is replaced. `hotswap_adapter` looks this
    function up by its name at each call, so it does not matter when `hotswap_adapter` was imported. Adapters of other
    kinds go to PEFT's own function.

    Args:
        replace_values: Replaces the values of an adapter: `replace_values(model, adapter_name, saved_config)`.
    """
    # `import peft` does not load this module, so importing the library does not load it either.
    from peft.utils import hotswap

    key: Any = PEFT_TYPE  # the table accepts a type that is not PEFT's
    of_peft = hotswap.hotswap_adapter_from_state_dict
    # PEFT 0.14 does not hand on the config. There, `hotswap_adapter` says that it takes LoRA alone.
    if key in hotswap.CONFIG_KEYS_TO_CHECK or "config" not in inspect.signature(of_peft).parameters:
        return

    @functools.wraps(of_peft)
    def put(model: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("parameter_prefix") == PREFIX:
            replace_values(getattr(model, "_orig_mod", model), kwargs["adapter_name"], kwargs["config"])
        else:
            of_peft(model, *args, **kwargs)

    hotswap.CONFIG_KEYS_TO_CHECK[key] = []  # `replace_values` compares the settings
    hotswap.hotswap_adapter_from_state_dict = put
