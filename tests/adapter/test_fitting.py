"""Whether an adapter fits a model."""

from __future__ import annotations

import open_clip
import pytest
import torch
from peft import get_peft_model
from torch import nn

import vilt_prompt
from tests.support.architectures import END, START, build
from tests.support.wrapped import IDS, SETTINGS, features, same, wrapped
from vilt_prompt import PromptConfig, convert, from_pretrained, wrap


def test_an_adapter_that_does_not_fit_is_not_added():
    model = wrapped()
    before = features(model)
    with pytest.raises(ValueError, match=r"expected K in 1\.\.4 \(the number of prompted layers\), got 9"):
        model.add_adapter("other", PromptConfig(K=9))
    assert list(model.peft_config) == ["default"]
    assert same(features(model), before)
    assert all(len(tensors) == 1 for tensors in (model.prompts.vilt_text, model.prompts.vilt_F))


def test_start_from_a_text():
    text_cfg = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 4}
    base = open_clip.CLIP(24, {"layers": 4, "width": 48, "head_width": 16, "image_size": 16, "patch_size": 8}, text_cfg)
    ids = open_clip.get_tokenizer("ViT-B-32")(["a photo of"])[0, 1:4].tolist()
    model = vilt_prompt.wrap(base, K=2, n_ctx=5, ctx_init="a photo of")
    assert torch.equal(model.prompts.vilt_text["default"][0, :3], base.token_embedding.weight[ids])
    assert not model.prompts.vilt_text["default"][0, 3:].eq(0).any()
    assert model.peft_config["default"].ctx_init == ids


def tokenizer(texts: list[str]) -> torch.Tensor:
    return torch.cat([IDS[1:2] if text else torch.tensor([[START, END] + [0] * 22]) for text in texts])


def test_start_from_ids_is_for_new_adapters_alone(tmp_path):
    model = wrapped(ctx_init=[60, 61])
    assert torch.equal(model.prompts.vilt_text["default"][0, :2], model.token_embedding.weight[[60, 61]])
    with_tokenizer = vilt_prompt.wrap(build("4/4"), **SETTINGS, ctx_init="ab", tokenizer=tokenizer)
    assert with_tokenizer.peft_config["default"].ctx_init == IDS[1, 1:4].tolist()
    with torch.no_grad():
        model.prompts.vilt_text["default"].mul_(2)
    model.save_pretrained(tmp_path)
    trimmed = build("4/4")
    trimmed.token_embedding = torch.nn.Embedding(50, 32)
    loaded = vilt_prompt.from_pretrained(trimmed, tmp_path)
    assert torch.equal(loaded.prompts.vilt_text["default"], model.prompts.vilt_text["default"])
    assert loaded.peft_config["default"].ctx_init == [60, 61]
    again = get_peft_model(build("4/4"), PromptConfig.from_pretrained(tmp_path))
    assert torch.equal(again.prompts.vilt_text["default"][0, :2], again.token_embedding.weight[[60, 61]])


REFUSED = {
    "n_ctx fills the tower": (
        lambda w: wrap(w.bare, K=2, n_ctx=23),
        ValueError,
        r"n_ctx=23 leaves no room .* choose n_ctx in 1\.\.22",
    ),
    "ctx_init outside the vocabulary": (
        lambda w: wrap(w.bare, K=2, ctx_init=[100]),
        ValueError,
        "ctx_init has token ids up to 100, the vocabulary ends at 99: use this model's tokenizer",
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
