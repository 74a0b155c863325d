"""The parameters of all adapters of a model."""

from __future__ import annotations

import open_clip
import pytest
import torch

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import build
from tests.support.wrapped import IDS, features, same, wrapped


def test_the_seed_alone_decides_the_first_values():
    assert same(features(wrapped(seed=3)), features(wrapped(seed=3)))
    assert not same(features(wrapped(seed=3)), features(wrapped(seed=4)))
    prompts = wrapped("12/12", n_ctx=10, K=6).prompts
    assert prompts.vilt_text["default"].std().item() == pytest.approx(0.02, rel=0.1)
    bound = prompts.vilt_F["default"].in_features ** -0.5
    assert prompts.vilt_F["default"].weight.abs().max().item() == pytest.approx(bound, rel=0.1)


def test_prompts_are_float32_under_another_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        model = vilt_prompt.wrap(build("4/4"), K=2, mapper="per_layer")
    finally:
        torch.set_default_dtype(torch.float32)
    assert {tensor.dtype for tensor in learnable_tensors(model).values()} == {torch.float32}


def test_open_clips_conversion_to_half_precision_after_wrap():
    model = wrapped()
    open_clip.model.convert_weights_to_lp(model.get_base_model(), torch.bfloat16)
    features = model.encode_text(IDS)
    assert features.dtype == torch.bfloat16
    features.sum().backward()
    assert all(p.grad.isfinite().all() for name, p in learnable_tensors(model).items() if "text" in name)


def test_prompts_have_no_weight_or_bias():
    prompts = wrapped().prompts
    assert not hasattr(prompts, "weight")
    assert not hasattr(prompts, "bias")


REFUSED = {
    "activate two adapters below": (
        lambda w: w.model.base_model.set_adapter(["default", "twin"]),
        ValueError,
        "one adapter can be active at a time",
    ),
    "activate an unknown adapter below": (
        lambda w: w.model.base_model.set_adapter("third"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
