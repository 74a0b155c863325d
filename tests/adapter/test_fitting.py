"""Whether an adapter fits a model."""

from __future__ import annotations

import pytest
from torch import nn

from vilt_prompt import convert, from_pretrained, wrap

REFUSED = {
    "n_ctx fills the tower": (
        lambda w: wrap(w.bare, K=2, n_ctx=23),
        ValueError,
        r"n_ctx=23 leaves no room .* choose n_ctx in 1\.\.22",
    ),
    "ctx_init outside the vocabulary": (
        lambda w: wrap(w.bare, K=2, ctx_init=[100]),
        ValueError,
        "ctx_init has token ids up to 100, the vocabulary ends at 99: are they of this model's tokenizer",
    ),
    "ctx_init is a text of no known vocabulary": (
        lambda w: wrap(w.bare, K=2, ctx_init="a photo"),
        ValueError,
        "pass wrap.*tokenizer=",
    ),
    "model is a layer": (
        lambda w: wrap(nn.Linear(2, 2), method="vpt_deep"),
        TypeError,
        r"expected an open_clip model \(CLIP, CustomTextCLIP or CoCa\), such as open_clip.create_model.*got Linear",
    ),
    "model is a name": (lambda w: wrap("ViT-B-16"), TypeError, "expected an open_clip model .*got str"),
    "model is None": (lambda w: wrap(None), TypeError, "expected an open_clip model .*got NoneType"),
    "model is compiled": (lambda w: wrap(w.compiled), TypeError, "got OptimizedModule"),
    "wrapping twice": (
        lambda w: wrap(w.model, K=2),
        ValueError,
        r"wrapped already: use wrapped.add_adapter.*or unwrap\(wrapped\) first",
    ),
    "wrapping twice, inside": (
        lambda w: wrap(w.model.get_base_model(), K=2),
        ValueError,
        "wrapped already: use wrapped.add_adapter",
    ),
    "wrapping around LoRA": (
        lambda w: wrap(w.lora, K=2),
        TypeError,
        r"PEFT's already \(.*LORA.*\): wrap the open_clip model inside, wrap\(model.get_base_model",
    ),
    "load with model and path exchanged": (
        lambda w: from_pretrained(w.folder / "good", w.bare),
        TypeError,
        "expected an open_clip model .*got PosixPath",
    ),
    "load onto no model": (
        lambda w: from_pretrained("ViT-B-16", w.folder / "good"),
        TypeError,
        "expected an open_clip model .*got str",
    ),
    "load onto a wrapped model": (
        lambda w: from_pretrained(w.model, w.folder / "good"),
        ValueError,
        "wrapped already: use wrapped.add_adapter",
    ),
    "convert for no model": (
        lambda w: convert(w.folder / "coop.pth", nn.Linear(2, 2)),
        TypeError,
        "expected an open_clip model",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
