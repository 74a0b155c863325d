"""The tuner that PEFT calls."""

from __future__ import annotations

import pytest
from peft import get_peft_model

from tests.support.refusals import VIDEO
from vilt_prompt import PromptConfig

REFUSED = {
    "get_peft_model": (
        lambda w: get_peft_model(w.bare, PromptConfig(K=9)),
        ValueError,
        r"K=9 is out of range: choose K in 1\.\.4",
    ),
    "delete the only adapter": (
        lambda w: w.alone.delete_adapter("default"),
        ValueError,
        "'default' is the only adapter: add another one first, or take all out with unwrap",
    ),
    "an adapter for each sample": (
        lambda w: w.model(VIDEO, adapter_names=["default", "twin"]),
        ValueError,
        r"adapter_names= \(an adapter for each sample\) is not supported: use set_adapter\(name\)",
    ),
    "merge": (
        lambda w: w.model.merge_adapter(),
        ValueError,
        "prompts cannot be merged into the weights: keep the adapter, or take it out with unwrap",
    ),
    "merge and unload": (lambda w: w.model.merge_and_unload(), ValueError, "prompts cannot be merged"),
    "unmerge": (lambda w: w.model.unmerge_adapter(), ValueError, "prompts cannot be merged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
