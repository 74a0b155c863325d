"""The batch norms of a wrapped model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import vilt_prompt
from tests.support.every_tower import N_CTX, ids_with_room
from tests.support.exactness import assert_equal
from tests.support.zoo import WITHOUT_VIT, build, frames
from vilt_prompt.model.batch_norms import freeze_statistics


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


def test_other_modules_keep_their_mode():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2), nn.LayerNorm(2))).train()
    freeze_statistics(model)
    assert [type(module).__name__ for module in model.modules() if not module.training] == [
        "BatchNorm1d",
        "BatchNorm2d",
    ]
