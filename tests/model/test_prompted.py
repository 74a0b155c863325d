"""The prompted open_clip model."""

from __future__ import annotations

import pytest

from tests.support.refusals import VIDEO

REFUSED = {
    "video in double precision": (
        lambda w: w.model.encode_video(VIDEO.double()),
        TypeError,
        r"video is torch.float64, the model torch.float32: use video.to\(torch.float32\), or torch.autocast",
    ),
    "images in half precision": (
        lambda w: w.coop.encode_image(VIDEO[0].half()),
        TypeError,
        "image is torch.float16, the model torch.float32",
    ),
    "video on another device": (
        lambda w: w.model.encode_video(VIDEO.to("meta")),
        ValueError,
        r"video is on meta, the model on cpu: use video.to\('cpu'\)",
    ),
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
        "frames_per_chunk=0 is out of range: it must be at least 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
