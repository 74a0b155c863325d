"""The open_clip object, patched in place and given back."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import vilt_prompt
from tests.support.architectures import build, class_ids, frames
from tests.support.exactness import N_CTX, NAME_LENGTHS, Reference, frozen_copy, randomise_prompts, relative_error
from tests.support.wrapped import features, same, wrapped


def test_copies_and_pickles_work_alone():
    model = wrapped()
    expected = features(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(features(copied), expected)
        with torch.no_grad():
            copied.prompts.vilt_text["default"].add_(1)
        assert not same(features(copied), expected)
        assert same(features(model), expected)
        assert type(vilt_prompt.unwrap(copied)) is type(build("4/4"))


@pytest.mark.parametrize("first_out", [0, 1])
def test_models_that_share_a_tower(first_out):
    """The tower is frozen as long as one of them is wrapped."""
    clips = build("4/4"), build("4/4", seed=1)
    clips[1].visual = clips[0].visual
    clips[0].visual.conv1.weight.requires_grad_(False)
    flags = [[parameter.requires_grad for parameter in clip.parameters()] for clip in clips]
    models = [vilt_prompt.wrap(clip, K=2, n_ctx=2) for clip in clips]
    last = clips[1 - first_out]
    vilt_prompt.unwrap(models[first_out])
    assert not any(p.requires_grad for name, p in last.named_parameters() if not name.startswith("prompts."))
    vilt_prompt.unwrap(models[1 - first_out])
    assert [[parameter.requires_grad for parameter in clip.parameters()] for clip in clips] == flags


def test_the_open_clip_object_gives_prompted_features():
    clip = build("4/4")
    base = frozen_copy(clip)
    model = vilt_prompt.wrap(clip, K=1, n_ctx=N_CTX, depth=2)
    randomise_prompts(model)
    reference = Reference(base, model, {"K": 1, "n_ctx": N_CTX, "depth": 2})
    ids, images = class_ids(base, NAME_LENGTHS), frames(base, 3)
    assert relative_error(clip.encode_text(ids), reference.encode_text(ids)) <= 1e-5
    assert relative_error(clip.encode_image(images), reference.encode_image(images)) <= 1e-5
    image_features, text_features, _ = clip(images, ids)
    assert relative_error(image_features, nn.functional.normalize(reference.encode_image(images), dim=-1)) <= 1e-5
    assert relative_error(text_features, nn.functional.normalize(reference.encode_text(ids), dim=-1)) <= 1e-5
    unit_text = nn.functional.normalize(reference.encode_text(ids), dim=-1)
    assert relative_error(model.encode_text(ids, normalize=True), unit_text) <= 1e-5
    assert relative_error(clip.encode_text(ids, normalize=True), unit_text) <= 1e-5
