"""open_clip's own image tower."""

from __future__ import annotations

import pytest
import torch

import vilt_prompt
from tests.support import zoo
from tests.support.architectures import frames
from tests.support.cases import CARRIED, FRESH
from tests.support.exactness import relative_error, wrap_tiny


def test_a_convolutional_tower_goes_on_taking_other_sizes():
    model = vilt_prompt.wrap(zoo.build("convnext"), method="coop")
    size = model.visual.image_size[0]
    assert model.encode_image(torch.randn(2, 3, size + 32, size + 32)).shape == (2, 24)


@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=["carried", "fresh"])
def test_patch_dropout_drops_no_prompt(settings):
    model, reference = wrap_tiny("patch_dropout", **settings)
    model.train()
    reference.base.train()
    images = frames(reference.base, 3)
    torch.manual_seed(0)
    got = model.encode_image(images)
    torch.manual_seed(0)
    want = reference.encode_image(images)
    assert relative_error(got, want) <= 1e-5
    assert relative_error(want, model.eval().encode_image(images)) > 0.1
