"""PEFT's `hotswap_adapter` replaces the values of an adapter in place, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils.hotswap import hotswap_adapter

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import build, class_ids, frames
from tests.support.state import state
from vilt_prompt import PromptConfig

SETTINGS = {"K": 1, "n_ctx": 3}
IDS = class_ids(build("2/2"), [1, 3])
IMAGES = frames(build("2/2"), 2)
needs_config = pytest.mark.needs("peft", "0.15", "hotswap_adapter")


def wrapped(seed: int = 0, **settings) -> vilt_prompt.PromptPeftModel:
    torch.manual_seed(seed)
    return vilt_prompt.wrap(build("2/2"), **{**SETTINGS, **settings})


def features(model) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model.encode_text(IDS), model.encode_image(IMAGES)]


@pytest.fixture
def saved(tmp_path) -> vilt_prompt.PromptPeftModel:
    """A model whose prompts are in the folder `tmp_path`."""
    model = wrapped(seed=1)
    model.save_pretrained(tmp_path)
    return model


@needs_config
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_the_values_are_replaced_in_place(saved, tmp_path, half):
    model = wrapped()
    model.add_adapter("other", PromptConfig(**SETTINGS))
    other = copy.deepcopy(learnable_tensors(model, "other"))
    if half:
        model.prompts.to(torch.bfloat16)
    before = {name: (id(p), p.data_ptr(), p.dtype, p.requires_grad) for name, p in model.named_parameters()}
    hotswap_adapter(model, str(tmp_path), adapter_name="default", torch_device="cpu")

    assert {name: (id(p), p.data_ptr(), p.dtype, p.requires_grad) for name, p in model.named_parameters()} == before
    expected = learnable_tensors(saved, "default")
    for name, tensor in learnable_tensors(model, "default").items():
        assert torch.equal(tensor, expected[name].to(tensor.dtype)), name
    if not half:
        assert all(map(torch.equal, features(model), features(saved)))
        assert all(torch.equal(tensor, other[name]) for name, tensor in learnable_tensors(model, "other").items())
    assert model.training
    assert model.active_adapter == "default"


@needs_config
def test_an_adapter_that_is_not_active(saved, tmp_path):
    model = wrapped()
    model.add_adapter("other", PromptConfig(**SETTINGS))
    before = features(model)
    hotswap_adapter(model, str(tmp_path), adapter_name="other", torch_device="cpu")
    assert all(map(torch.equal, features(model), before))
    model.set_adapter("other")
    assert all(map(torch.equal, features(model), features(saved)))


@needs_config
def test_a_frozen_adapter_stays_frozen(saved, tmp_path):
    first = tmp_path / "first"
    wrapped().save_pretrained(first)
    model = vilt_prompt.from_pretrained(build("2/2"), first)
    hotswap_adapter(model, str(tmp_path), adapter_name="default", torch_device="cpu")
    assert all(map(torch.equal, features(model), features(saved)))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.peft_config["default"].inference_mode


@needs_config
def test_a_compiled_model_is_not_compiled_again(saved, tmp_path):
    model = wrapped()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(IMAGES, IDS)
        hotswap_adapter(compiled, str(tmp_path), adapter_name="default", torch_device="cpu")
        with torch.compiler.set_stance("fail_on_recompile"):
            found = compiled(IMAGES, IDS)
        for actual, expected in zip(found, saved(IMAGES, IDS), strict=True):
            torch.testing.assert_close(actual, expected)


@needs_config
@pytest.mark.parametrize(
    ("settings", "name", "message"),
    [
        ({}, "third", "there is no adapter 'third'; there are: default"),
        ({"n_ctx": 2}, "default", "an adapter 'default' of another structure \\(n_ctx is 2 and 3;"),
    ],
)
def test_what_does_not_fit_changes_nothing(saved, tmp_path, settings, name, message):
    model = wrapped(**settings)
    before = copy.deepcopy(state(model))
    with pytest.raises(ValueError, match=message):
        hotswap_adapter(model, str(tmp_path), adapter_name=name, torch_device="cpu")
    assert state(model) == before


@needs_config
def test_another_base_is_an_error(saved, tmp_path):
    clip = build("2/2")
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.mul_(2)
    model = vilt_prompt.wrap(clip, **SETTINGS)
    before = copy.deepcopy(learnable_tensors(model))
    with pytest.raises(ValueError, match="trained on other weights"):
        hotswap_adapter(model, str(tmp_path), adapter_name="default", torch_device="cpu")
    assert all(torch.equal(tensor, before[name]) for name, tensor in learnable_tensors(model).items())


def test_lora_is_swapped_as_before(tmp_path):
    wrapped()  # the first model with prompts extends PEFT's function

    def with_lora(seed: int):
        torch.manual_seed(seed)
        layers = torch.nn.Sequential(torch.nn.Linear(4, 4))
        torch.nn.init.eye_(layers[0].weight)
        torch.nn.init.zeros_(layers[0].bias)
        return get_peft_model(layers, LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))

    with_lora(1).save_pretrained(tmp_path)
    model, expected = with_lora(0), with_lora(1)
    assert not torch.equal(model(torch.ones(1, 4)), expected(torch.ones(1, 4)))
    hotswap_adapter(model, str(tmp_path), adapter_name="default", torch_device="cpu")
    assert torch.equal(model(torch.ones(1, 4)), expected(torch.ones(1, 4)))


def test_prompts_do_not_go_into_lora(saved, tmp_path):
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), LoraConfig(target_modules=["0"]))
    with pytest.raises(ValueError, match="Incompatible PEFT types found: LORA and VILT_PROMPT"):
        hotswap_adapter(model, str(tmp_path), adapter_name="default", torch_device="cpu")
