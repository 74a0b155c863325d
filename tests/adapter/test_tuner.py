"""The tuner that PEFT calls."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from peft import get_peft_model

import vilt_prompt
from tests.support.architectures import CONTEXT_LENGTH, build, class_ids, frames
from tests.support.cases import CARRIED
from tests.support.exactness import NAME_LENGTHS, assert_equal, relative_error, wrap_tiny
from tests.support.refusals import VIDEO
from tests.support.wrapped import IDS, SETTINGS, features, same, trainable, wrapped
from vilt_prompt import PromptConfig


def test_get_peft_model_is_wrap():
    base = build("4/4")
    torch.manual_seed(0)
    model = get_peft_model(base, PromptConfig(**SETTINGS)).eval()
    assert type(model) is type(wrapped())
    assert same(features(model), features(wrapped()))


def test_deleting_the_active_adapter_makes_another_one_active():
    model = wrapped()
    torch.manual_seed(1)
    model.add_adapter("other", PromptConfig(**SETTINGS))
    with pytest.warns(UserWarning, match="Setting active adapter to other"):
        model.delete_adapter("default")
    assert same(features(model), features(wrapped(seed=1)))
    assert trainable(model)
    with pytest.raises(ValueError, match="'other' is the only adapter: .* unwrap"):
        model.delete_adapter("other")


def test_deleting_an_inactive_adapter_leaves_the_active_one_trainable():
    model = wrapped()
    before = trainable(model)
    model.add_adapter("other", PromptConfig(**SETTINGS))
    model.delete_adapter("other")
    assert trainable(model) == before


def test_locking_the_towers_leaves_prompts_trainable():
    model = wrapped("custom_text")
    before = trainable(model)
    model.lock_image_tower()
    model.lock_text_tower()
    assert trainable(model) == before


def test_deleting_a_frozen_adapter_trains_no_other(tmp_path):
    wrapped().save_pretrained(tmp_path)
    model = vilt_prompt.from_pretrained(build("4/4"), tmp_path)
    model.load_adapter(str(tmp_path), "other")
    with pytest.warns(UserWarning, match="Setting active adapter to other"):
        model.delete_adapter("default")
    assert not trainable(model)


def test_disable_adapter_leaves_requires_grad_alone(tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path)
    frozen = vilt_prompt.from_pretrained(build("4/4"), tmp_path)
    for candidate in (model, frozen):
        before = trainable(candidate)
        with candidate.disable_adapter():
            assert same(features(candidate), features(build("4/4").requires_grad_(False)))
        assert trainable(candidate) == before
        assert not same(features(candidate), features(build("4/4")))


def test_unload_is_unwrap():
    base = build("4/4")
    model = vilt_prompt.wrap(base, **SETTINGS)
    assert model.unload() is base
    assert type(base) is type(build("4/4"))
    with pytest.raises(TypeError, match="still wrapped"):
        vilt_prompt.unwrap(model)
    assert vilt_prompt.unwrap(vilt_prompt.wrap(base, **SETTINGS)) is base


@pytest.mark.parametrize("verb", ["merge_adapter", "unmerge_adapter", "merge_and_unload"])
def test_merging_is_refused(verb):
    with pytest.raises(ValueError, match="prompts cannot be merged"):
        getattr(wrapped(), verb)()


def test_two_active_adapters_are_refused():
    model = wrapped()
    model.add_adapter("other", PromptConfig(**SETTINGS))
    with pytest.raises(ValueError, match="one adapter can be active at a time"):
        model.base_model.set_adapter(["default", "other"])
    with pytest.raises(ValueError, match="one adapter can be active at a time"):
        model.set_adapter(["default", "other"])
    with pytest.raises(ValueError, match="no adapter 'third'; there are: default, other"):
        model.base_model.set_adapter("third")
    assert model.active_adapters == ["default"]


def test_the_active_adapter_may_come_as_a_list_of_one():
    model = wrapped()
    model.add_adapter("other", PromptConfig(**SETTINGS))
    model.set_adapter(["other"])
    assert (model.active_adapter, model.active_adapters) == ("other", ["other"])
    model.base_model.set_adapter(["default"])
    assert model.base_model.active_adapters == ["default"]
    with pytest.raises(ValueError, match=r"one adapter can be active at a time, got \[\]"):
        model.set_adapter([])
    with pytest.raises(TypeError, match="an adapter name must be a string, got 3"):
        model.set_adapter([3])


def test_an_adapter_for_each_sample_is_refused():
    with pytest.raises(ValueError, match="adapter_names="):
        wrapped()(text=IDS, adapter_names=["default"] * len(IDS))


def test_an_old_handle_leaves_a_new_adapter_alone():
    first = wrapped()
    second = vilt_prompt.wrap(vilt_prompt.unwrap(first), **SETTINGS)
    with pytest.raises(TypeError, match="still wrapped"):
        vilt_prompt.unwrap(first)
    vilt_prompt.unwrap(second)


def test_no_active_adapter_is_the_base():
    model = wrapped()
    model.get_base_model().prompts.set_adapter([])
    assert same(features(model), features(build("4/4").requires_grad_(False)))
    with pytest.raises(ValueError, match=r"no adapter is active: add one with add_adapter\(\.\.\.\) and set_adapter"):
        model.layer_prompts()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("guard", [nullcontext, torch.no_grad], ids=["grad", "no_grad"])
@pytest.mark.parametrize("architecture", ["4/4", "custom_text", "attention_pool", "layer_scale"])
def test_disable_adapter_is_the_base_bit_for_bit(architecture, guard, training):
    model, reference = wrap_tiny(architecture, **CARRIED)
    model.train(training)
    base = reference.base.train(training)
    ids, images = class_ids(base, NAME_LENGTHS), frames(base, 3)
    requires_grad = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with guard():
        prompted = model.encode_text(ids), model.encode_image(images)
        with model.disable_adapter():
            assert torch.equal(model.encode_text(ids), base.encode_text(ids))
            assert torch.equal(model.encode_image(images), base.encode_image(images))
            assert_equal(model(images, ids), base(images, ids))
        assert torch.equal(model.encode_text(ids), prompted[0])
        assert torch.equal(model.encode_image(images), prompted[1])
    assert relative_error(prompted[0], base.encode_text(ids)) > 0.1
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == requires_grad


def test_disable_adapter_leaves_a_frozen_adapter_frozen():
    model, _ = wrap_tiny("4/4", **CARRIED)
    model.requires_grad_(False)
    with model.disable_adapter():
        pass
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_disable_adapter_runs_rows_that_leave_no_room_for_prompts():
    model, reference = wrap_tiny("4/4", **CARRIED)
    ids = class_ids(reference.base, [CONTEXT_LENGTH - 2, 3])
    with model.disable_adapter():
        assert torch.equal(model.encode_text(ids), reference.base.encode_text(ids))


REFUSED = {
    "get_peft_model": (
        lambda w: get_peft_model(w.bare, PromptConfig(K=9)),
        ValueError,
        r"expected K in 1\.\.4 \(the number of prompted layers\), got 9: K=None takes half of them",
    ),
    "delete the only adapter": (
        lambda w: w.alone.delete_adapter("default"),
        ValueError,
        "'default' is the only adapter: add another one first, or remove all prompts with unwrap",
    ),
    "an adapter for each sample": (
        lambda w: w.model(VIDEO, adapter_names=["default", "twin"]),
        ValueError,
        r"adapter_names= \(an adapter for each sample\) is not supported: use set_adapter\(name\)",
    ),
    "merge": (
        lambda w: w.model.merge_adapter(),
        ValueError,
        "prompts cannot be merged into the weights: keep the adapter, or take it out with unwrap",
    ),
    "merge and unload": (lambda w: w.model.merge_and_unload(), ValueError, "prompts cannot be merged"),
    "unmerge": (lambda w: w.model.unmerge_adapter(), ValueError, "prompts cannot be merged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
