"""The state dicts that a prompted model loads."""

from __future__ import annotations

import pytest
import torch

import vilt_prompt
from tests.support.architectures import build
from tests.support.wrapped import SETTINGS, features, same, wrapped
from vilt_prompt.model.state_dict import check_state_dict


def test_whole_models_and_prompts_alone_load():
    model, other = wrapped(), vilt_prompt.wrap(build("4/4", seed=3), **SETTINGS).eval()
    other.load_state_dict(model.state_dict())
    assert same(features(other), features(model))
    prompts = {name: tensor + 1 for name, tensor in model.state_dict().items() if "prompts." in name}
    model.load_state_dict(prompts, strict=False)
    assert not same(features(other), features(model))
    other.get_base_model().prompts.load_state_dict(model.prompts.state_dict())
    assert same(features(other), features(model))


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_prompts_beside_the_tensors_of_another_adapter_are_refused(prefix):
    keys = [f"{prefix}{key}" for key in ("lora_A", "prompts.vilt_text", "prompts.vilt_vision")]
    message = r"tensors of an adapter of another kind, and prompts \(prompts.vilt_text, ...\).* in two calls$"
    with pytest.raises(ValueError, match=message):
        check_state_dict(keys, prefix)
    check_state_dict([*keys, f"{prefix}logit_scale"], prefix)  # a whole model
    check_state_dict(keys[1:], prefix)
    check_state_dict(keys[:1], prefix)
    check_state_dict([], prefix)


def test_a_refused_state_dict_changes_nothing():
    model = wrapped()
    before = features(model)
    mixed = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items() if "prompts." in name}
    with pytest.raises(ValueError, match="an adapter of another kind"):
        model.load_state_dict(mixed | {"base_model.model.lora_A": torch.zeros(1)}, strict=False)
    assert same(features(model), before)
