"""The prompted open_clip model."""

from __future__ import annotations

import pytest
from torch import nn

from tests.support.architectures import class_ids, frames
from tests.support.cases import CARRIED
from tests.support.exactness import FRAME_MASK, NAME_LENGTHS, assert_equal, relative_error, wrap_tiny
from tests.support.refusals import VIDEO


@pytest.mark.parametrize("logit_bias", [None, -3.0])
@pytest.mark.parametrize("architecture", ["4/4", "custom_text"])
def test_forward_gives_what_open_clip_gives(architecture, logit_bias):
    model, reference = wrap_tiny(architecture, model={"init_logit_bias": logit_bias}, **CARRIED)
    ids = class_ids(reference.base, NAME_LENGTHS)
    images, video = frames(reference.base, 3), frames(reference.base, 2, 3)
    want_text = nn.functional.normalize(reference.encode_text(ids), dim=-1)
    want_images = nn.functional.normalize(reference.encode_image(images), dim=-1)
    want_video = nn.functional.normalize(reference.encode_video(video, FRAME_MASK), dim=-1)

    outputs = model(images, ids)
    assert len(outputs) == len(reference.base(images, ids))
    assert relative_error(outputs[0], want_images) <= 1e-5
    assert relative_error(outputs[1], want_text) <= 1e-5
    assert_equal(outputs[2:], reference.base(images, ids)[2:])
    assert relative_error(model(image=images)[0], want_images) <= 1e-5
    assert relative_error(model(video=video, text=ids, frame_mask=FRAME_MASK)[0], want_video) <= 1e-5
    assert relative_error(model(text=ids)[1], want_text) <= 1e-5
    assert model(text=ids)[0] is None

    clip = model.get_base_model()
    clip.output_dict = True
    outputs = model(video, ids, frame_mask=FRAME_MASK)
    reference.base.output_dict = True
    assert outputs.keys() == reference.base(images, ids).keys()
    assert relative_error(outputs["image_features"], want_video) <= 1e-5
    assert relative_error(outputs["text_features"], want_text) <= 1e-5


REFUSED = {
    "forward of an unknown argument": (
        lambda w: w.model(videos=VIDEO),
        TypeError,
        "unexpected keyword argument 'videos'",
    ),
    "frames_per_chunk is a float": (
        lambda w: w.model.encode_video(VIDEO, frames_per_chunk=1.5),
        TypeError,
        "frames_per_chunk must be an integer or None, got 1.5",
    ),
    "frames_per_chunk is true": (
        lambda w: w.model.encode_video(VIDEO, frames_per_chunk=True),
        TypeError,
        "frames_per_chunk must be an integer or None, got True",
    ),
    "frames_per_chunk=0": (
        lambda w: w.model.encode_video(VIDEO, frames_per_chunk=0),
        ValueError,
        "expected frames_per_chunk of at least 1, got 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
