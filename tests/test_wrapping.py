"""`wrap` and `unwrap`."""

from __future__ import annotations

import pytest

from vilt_prompt import unwrap

REFUSED = {
    "unwrap a model without prompts": (
        lambda w: unwrap(w.bare),
        TypeError,
        r"expected what wrap\(\) returned, still wrapped, got CLIP",
    ),
    "unwrap None": (lambda w: unwrap(None), TypeError, "still wrapped, got NoneType"),
    "unwrap twice": (lambda w: unwrap(w.unwrapped), TypeError, r"expected what wrap\(\) returned, still wrapped"),
    "unwrap the object inside": (
        lambda w: unwrap(w.model.get_base_model()),
        TypeError,
        r"expected what wrap\(\) returned, still wrapped, got PromptedCLIP",
    ),
    "unwrap LoRA": (lambda w: unwrap(w.lora), TypeError, r"expected what wrap\(\) returned"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
