"""PEFT's helper functions on a wrapped model: they work, or say what to use instead."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from peft import get_layer_status, get_model_status, get_peft_model

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import build, class_ids, frames
from vilt_prompt import PromptConfig

SETTINGS = {"K": 1, "n_ctx": 3}
IDS = class_ids(build("2/2"), [1, 3])
IMAGES = frames(build("2/2"), 2)


def wrapped(seed: int = 0) -> vilt_prompt.PromptPeftModel:
    torch.manual_seed(seed)
    return vilt_prompt.wrap(build("2/2"), **SETTINGS)


def features(model) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model.encode_text(IDS), model.encode_image(IMAGES)]


def test_the_type_is_a_string_and_an_enum():
    kind = PromptConfig().peft_type
    assert kind == kind.value == "VILT_PROMPT"
    assert json.loads(json.dumps({"peft_type": kind})) == {"peft_type": "VILT_PROMPT"}
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert {kind: 1}["VILT_PROMPT"] == 1


@pytest.mark.parametrize("of", [get_model_status, lambda model: model.get_model_status()], ids=["function", "method"])
def test_the_status_of_the_model(of):
    model = wrapped()
    model.add_adapter("other", PromptConfig(**SETTINGS))
    status = of(model)
    assert status.peft_types == {"default": "VILT_PROMPT", "other": "VILT_PROMPT"}
    assert status.active_adapters == ["default"]
    assert status.available_adapters == ["default", "other"]
    assert status.requires_grad == {"default": True, "other": False}
    assert status.enabled
    assert status.merged_adapters == []
    assert status.devices == {"default": ["cpu"], "other": ["cpu"]}
    assert status.num_adapter_layers == 1
    assert status.trainable_params == sum(tensor.numel() for tensor in learnable_tensors(model, "default").values())
    with model.disable_adapter():
        assert not of(model).enabled


@pytest.mark.parametrize("of", [get_layer_status, lambda model: model.get_layer_status()], ids=["function", "method"])
def test_the_status_of_the_layer(of):
    (status,) = of(wrapped())
    assert status.name == "model.prompts"
    assert status.module_type == "PromptLayer"
    assert status.requires_grad == {"default": True}


@pytest.mark.needs("peft", "0.15", "disable_input_dtype_casting")
def test_disabling_the_casting_of_inputs_changes_nothing():
    from peft.helpers import disable_input_dtype_casting

    model = wrapped()
    before = features(model)
    with disable_input_dtype_casting(model):
        assert all(map(torch.equal, features(model), before))
    assert all(map(torch.equal, features(model), before))


def test_mixed_models_are_refused():
    clip = build("2/2")
    keys, kind = list(clip.state_dict()), type(clip)
    with pytest.raises(ValueError, match=r"'VILT_PROMPT' is not compatible with the `PeftMixedModel`"):
        get_peft_model(clip, PromptConfig(**SETTINGS), mixed=True)
    assert list(clip.state_dict()) == keys
    assert type(clip) is kind


def test_requires_grad_of_adapters_by_name():
    model = wrapped()
    model.add_adapter("other", PromptConfig(**SETTINGS))
    model.set_requires_grad(["default", "other"], False)
    assert model.get_model_status().requires_grad == {"default": False, "other": False}
    model.set_requires_grad("other")
    assert model.get_model_status().requires_grad == {"default": False, "other": True}
    with pytest.raises(ValueError, match="there is no adapter 'third'; there are: default, other"):
        model.set_requires_grad(["default", "third"])
    assert model.get_model_status().requires_grad == {"default": False, "other": True}


def test_adding_an_adapter_leaves_a_frozen_one_frozen():
    model = wrapped()
    model.set_requires_grad("default", False)
    model.add_adapter("other", PromptConfig(**SETTINGS))
    assert model.get_model_status().requires_grad == {"default": False, "other": False}
