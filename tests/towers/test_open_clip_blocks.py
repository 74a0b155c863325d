"""open_clip's transformer blocks."""

from __future__ import annotations

import pytest

from vilt_prompt import wrap

REFUSED = {
    "LoRA on out_proj": (
        lambda w: wrap(w.lora_on_out_proj.get_base_model(), K=2),
        ValueError,
        r"LoRA, on out_proj inside an nn.MultiheadAttention, which ignores it: adapt the whole attention",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
