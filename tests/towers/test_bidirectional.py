"""Layers in which every token sees every other."""

from __future__ import annotations

import pytest
import torch

from tests.reference.literal import learnable_tensors
from tests.support import zoo
from tests.support.architectures import frames, of_unknown_kind
from tests.support.cases import CARRIED, FRESH
from tests.support.every_tower import ids_with_room
from tests.support.exactness import assert_exact, relative_error, with_reference, wrap_tiny


@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 1}], ids=str)
@pytest.mark.parametrize("whole", [False, True], ids=["in pieces", "whole"])
@pytest.mark.parametrize("name", ["text_first_without_mask", "text_eos_without_mask", "siglip2"])
def test_a_tower_that_masks_its_padding(name, whole, settings):
    clip, ids = zoo.build(name), ids_with_room(name)
    unmasked = clip.encode_text(ids)
    clip.text.use_pad_mask = True
    assert relative_error(clip.encode_text(ids), unmasked) > 1e-3
    model, reference = with_reference(clip, n_ctx=3, **settings)
    assert_exact(of_unknown_kind(model) if whole else model, reference, ids)


@pytest.mark.parametrize("architecture", ["4/4", "mean_pool", "attention_pool"])
@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=["carried", "fresh"])
def test_visual_prompts_may_be_permuted(architecture, settings):
    model, reference = wrap_tiny(architecture, **{**settings, "method": "independent", "n_ctx": 4, "n_ctx_vision": 4})
    images = frames(reference.base, 3)
    before = model.encode_image(images)
    prompts = learnable_tensors(model)["vilt_vision"]
    with torch.no_grad():
        for layer in range(len(prompts)):
            prompts[layer] = prompts[layer][torch.tensor([2, 0, 3, 1]).roll(layer)]
    assert relative_error(model.encode_image(images), before) <= 1e-5
    with torch.no_grad():
        prompts[:, 0] = 0.5
    assert relative_error(model.encode_image(images), before) > 1e-2
