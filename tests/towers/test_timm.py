"""timm's vision transformers."""

from __future__ import annotations

import pytest
import torch

import vilt_prompt
from tests.support import zoo
from tests.support.every_tower import N_CTX, ids_with_room
from tests.support.exactness import assert_equal
from tests.support.state import state
from tests.support.zoo import WITHOUT_VIT, build, frames


def both_features(model, name: str):
    images = frames(model, 2)
    return model.encode_text(ids_with_room(name), normalize=False), model.encode_image(images, normalize=False)


def batch_norms(model) -> list:
    return [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("name", ["mobileclip_b", "resnet", "fastvit"])
def test_batch_norms_keep_their_statistics_in_training_mode(name):
    towers = {"towers": "text"} if name in WITHOUT_VIT else {"K": 2}
    model = vilt_prompt.wrap(build(name), n_ctx=N_CTX, **towers)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert batch_norms(model)
    want = both_features(model, name)
    model.train()
    got = both_features(model, name)
    assert_equal(got, want)
    assert_equal(model.state_dict().values(), before.values())
    assert model.training
    assert not any(module.training for module in batch_norms(model))


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
