"""PEFT's verbs on a prompted model, and each of PEFT's traps for a tuner from outside."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load as tensors_in
from safetensors.torch import load_file, save_file

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import build
from tests.support.wrapped import IDS, features, same, trainable, wrapped
from vilt_prompt import PromptConfig


@pytest.mark.parametrize("method", vilt_prompt.METHODS)
def test_save_and_load(method, tmp_path):
    model = wrapped(method=method, K=None)
    model.save_pretrained(tmp_path)
    for load in (vilt_prompt.from_pretrained, PeftModel.from_pretrained):
        loaded = load(build("4/4"), str(tmp_path))
        assert same(features(loaded), features(model))
        assert not trainable(loaded)


def test_training_goes_on_from_a_file(tmp_path):
    wrapped().save_pretrained(tmp_path)
    model = vilt_prompt.from_pretrained(build("4/4"), tmp_path, is_trainable=True)
    assert trainable(model) == trainable(wrapped())


def test_several_adapters_side_by_side(tmp_path):
    model = wrapped()
    alone = features(model)
    torch.manual_seed(1)
    model.add_adapter("maple", PromptConfig.preset("maple", n_ctx=2))
    assert same(features(model), alone)
    model.set_adapter("maple")
    other = features(model)
    assert not same(other, alone)
    assert all(".maple" in name for name in trainable(model))
    before = copy.deepcopy(learnable_tensors(model, "default"))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.encode_text(IDS).square().sum().backward()
    optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in learnable_tensors(model, "default").items())
    model.save_pretrained(tmp_path)
    model.set_adapter("default")
    assert same(features(model), alone)
    model.load_adapter(str(tmp_path / "maple"), "again")
    model.set_adapter("maple")
    trained = features(model)
    model.set_adapter("again", inference_mode=True)
    assert same(features(model), trained)
    assert not trainable(model)
    model.set_adapter("default")
    model.delete_adapter("maple")
    assert set(model.peft_config) == {"default", "again"}
    assert same(features(model), alone)


@pytest.mark.parametrize("load", [vilt_prompt.from_pretrained, PeftModel.from_pretrained])
def test_tensors_that_do_not_fit_are_an_error(load, tmp_path):
    wrapped().save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = tensors_in(path.read_bytes())  # `load_file` maps the file that is overwritten
    text = "base_model.model.prompts.vilt_text"
    for broken, message in (
        ({key: tensor for key, tensor in tensors.items() if key != text}, "vilt_text is missing"),
        ({**tensors, "base_model.model.prompts.vilt_extra": tensors[text].clone()}, "vilt_extra is unexpected"),
        ({**tensors, text: tensors[text][:, :2].clone()}, r"vilt_text is of shape \(2, 2, 32\), expected \(2, 3, 32\)"),
    ):
        save_file(broken, path)
        base = build("4/4")
        with pytest.raises(ValueError, match=message):
            load(base, str(tmp_path))
        assert type(base) is type(build("4/4"))
        model = wrapped()
        before = features(model)
        with pytest.raises(ValueError, match=message):
            model.load_adapter(str(tmp_path), "other")
        assert list(model.peft_config) == list(model.prompts.tables) == ["default"]
        assert same(features(model), before)


@pytest.mark.parametrize("load", [vilt_prompt.from_pretrained, PeftModel.from_pretrained])
def test_a_pickle_is_never_loaded_nor_saved(load, tmp_path):
    with pytest.raises(ValueError, match="never as pickles"):
        wrapped().save_pretrained(tmp_path, safe_serialization=False)
    assert not list(tmp_path.iterdir())
    wrapped().save_pretrained(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    torch.save(load_file(weights), tmp_path / "adapter_model.bin")
    weights.unlink()
    base = build("4/4")
    with pytest.raises(ValueError, match="holds adapter_model.bin but no .*: pickles are never loaded"):
        load(base, str(tmp_path))
    (tmp_path / "adapter_model.bin").rename(weights)
    with pytest.raises(ValueError, match="is a pickle, not safetensors"):
        load(base, str(tmp_path))
    assert type(base) is type(build("4/4"))


def test_an_adapter_loaded_beside_another_may_be_trained(tmp_path):
    wrapped(seed=1).save_pretrained(tmp_path)
    model = wrapped()
    model.load_adapter(str(tmp_path), "frozen")
    before = trainable(model)
    assert before == trainable(wrapped())
    model.load_adapter(str(tmp_path), "second", is_trainable=True)
    assert trainable(model) == before | {name.replace("default", "second") for name in before}
    assert model.active_adapter == "default"
    assert same(features(model), features(wrapped()))


def test_low_cpu_mem_usage_loads_the_same(tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(build("4/4"), str(tmp_path), low_cpu_mem_usage=True)
    assert same(features(loaded), features(model))


REFUSED = {
    "load again into another structure": (
        lambda w: w.model.load_adapter(w.folder / "good", "coop"),
        ValueError,
        r"there is an adapter 'coop' of another structure \(towers is 'text' and 'both'.*: choose another name, or",
    ),
    "load a deeper adapter": (
        lambda w: w.model.load_adapter(w.folder / "deep", "third"),
        ValueError,
        r"expected depth in 1\.\.4 \(the number of layers of the prompted towers\), got 12",
    ),
    "load with an unknown argument": (
        lambda w: w.model.load_adapter(w.folder / "good", "third", strict=False),
        TypeError,
        "unexpected keyword argument 'strict'. Did you mean 'strict_base'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
