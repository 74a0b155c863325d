"""timm's vision transformers."""

from __future__ import annotations

import pytest

import vilt_prompt
from tests.support import zoo
from tests.support.state import state
from tests.support.zoo import build


@pytest.mark.parametrize("settings", [{"K": 2}, {"method": "coop"}, {"method": "vpt_deep"}], ids=str)
@pytest.mark.parametrize("name", zoo.REFUSED)
def test_scaled_cosine_attention_is_refused(name, settings):
    model = build(name).train()
    before = state(model)
    with pytest.raises(ValueError, match="scaled cosine attention, which open_clip's own forward cannot run either"):
        vilt_prompt.wrap(model, **settings)
    assert state(model) == before


@pytest.mark.parametrize("name", ["siglip", "gap"])
def test_timms_tower_that_does_not_pool_is_refused(name):
    model = build(name).train()
    model.visual.trunk.reset_classifier(0, global_pool="")
    before = state(model)
    with pytest.raises(
        ValueError, match="vision tower VisionTransformer of TimmModel cannot take prompts: it does not pool its tokens"
    ):
        vilt_prompt.wrap(model, K=2)
    assert state(model) == before
