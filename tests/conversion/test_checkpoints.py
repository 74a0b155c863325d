"""Reading checkpoints of other projects."""

from __future__ import annotations

import pytest
import torch

from vilt_prompt import convert

REFUSED = {
    "convert no file": (
        lambda w: convert(w.folder / "nowhere.pth", w.bare),
        ValueError,
        "there is no file .*nowhere.pth: give the checkpoint itself",
    ),
    "convert None": (lambda w: convert(None, w.bare), TypeError, "path must be the path of a checkpoint.*got None"),
    "convert tensors": (
        lambda w: convert({"ctx": torch.randn(4, 32)}, w.bare),
        TypeError,
        "path must be the path of a checkpoint.*got {'ctx': tensor",
    ),
    "convert a file that is not a checkpoint": (
        lambda w: convert(w.folder / "file", w.bare),
        ValueError,
        r"is not a checkpoint that torch.load\(..., weights_only=True\) can read",
    ),
    "convert without tensors": (
        lambda w: convert(w.folder / "no_tensors.pth", w.bare),
        ValueError,
        "holds no tensors by name: expected a state dict.*got a dict of epoch",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
