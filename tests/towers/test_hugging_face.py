"""Hugging Face text encoders."""

from __future__ import annotations

import pytest
import torch

REFUSED = {
    "nothing but padding": (
        lambda w: w.roberta.encode_text(torch.ones(2, 8, dtype=torch.long)),
        ValueError,
        r"text 0 is nothing but padding \(id 1\): pass tokenizer\(texts\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
