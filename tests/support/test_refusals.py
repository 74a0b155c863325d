"""The models of `World` are valid, and its comparison before and after a call sees every change."""

from __future__ import annotations

import pytest
import torch

from tests.support import zoo
from tests.support.architectures import build
from tests.support.refusals import IDS, MASK, VIDEO, Words, World, tokenizer, with_adapters
from tests.support.state import state
from vilt_prompt import convert, from_pretrained, nearest_tokens, scenario_features


@pytest.fixture(scope="module")
def w(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("files"))


def test_the_models_are_good_for_good_calls(w):
    """The calls fail because of their own faults, not because of the models."""
    for model in (w.model, w.coop, w.vpt):
        assert model.encode_video(VIDEO, frame_mask=MASK).shape == (2, 24)
        assert model.encode_text(IDS).shape == (3, 24)
    assert w.coca(VIDEO[0], IDS[:, :23])["logits"].shape[0] == 3
    assert w.siglip.encode_text(zoo.text_ids("siglip", [19])).shape == (1, 48)
    assert w.roberta.encode_text(zoo.text_ids("roberta", [27], columns=32)).shape == (1, 24)
    assert w.eos.encode_text(torch.tensor([[1, 5, 2], [1, 5, 2]])).shape == (2, 24)
    assert scenario_features(w.model, tokenizer, ["a", "b"]).shape == (2, 24)
    with w.model.use_adapter("twin"):
        assert len(nearest_tokens(w.model, Words()).vectors) == 12
    from_pretrained(build("4/4"), w.folder / "good", strict_base=False)
    convert(w.folder / "coop.pth", build("4/4"))


@pytest.mark.parametrize("change", ["value", "grad", "mode", "hook", "config", "active", "disabled", "buffer", "child"])
def test_the_fingerprint_sees(change):
    model = with_adapters()
    before = state(model)
    assert state(model) == before
    parameter = model.get_base_model().prompts.vilt_text["twin"]
    if change == "value":
        parameter.data[0, 0, 0] += 1
    elif change == "grad":
        parameter.requires_grad_(not parameter.requires_grad)
    elif change == "mode":
        model.get_base_model().visual.train()
    elif change == "hook":
        model.get_base_model().visual.register_forward_hook(lambda *_: None)
    elif change == "config":
        model.peft_config["twin"].K = 1
    elif change == "active":
        model.set_adapter("twin")
        model.set_adapter("default")
        model.base_model.set_adapter("twin")
    elif change == "disabled":
        model.get_base_model().prompts.enable_adapters(False)
    elif change == "buffer":
        model.get_base_model().attn_mask[0, 0] = -1
    else:
        model.get_base_model().prompts.tables["new"] = None
    assert state(model) != before


def test_a_call_that_is_not_refused_or_changes_a_model_is_noticed(w):
    def refused(change) -> None:
        change()
        raise ValueError("no")

    w.refuse(lambda w: refused(lambda: w.coop), ValueError, "no")
    with pytest.raises(AssertionError):
        w.refuse(lambda w: refused(w.coop.train), ValueError, "no")
    w.refuse(lambda w: refused(w.coop.train), ValueError, "no")  # the call after it is not blamed
    with pytest.raises(AssertionError):
        w.refuse(lambda w: refused(w.coop.eval), ValueError, "no")
    with pytest.raises(AssertionError):
        w.refuse(lambda w: refused(lambda: None), ValueError, "yes")
    with pytest.raises(AssertionError):
        w.refuse(lambda w: refused(lambda: None), Exception, "no")
    with pytest.raises(pytest.fail.Exception):
        w.refuse(lambda w: None, ValueError, "no")
