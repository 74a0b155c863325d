"""Videos, images and frame masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.architectures import frames
from tests.support.cases import CARRIED
from tests.support.exactness import FRAME_MASK, relative_error, wrap_tiny
from tests.support.refusals import IDS, MASK, VIDEO


def test_video_is_the_mean_over_its_frames():
    model, reference = wrap_tiny("4/4", **CARRIED)
    video = frames(reference.base, 2, 3)
    per_frame = model.encode_video(video, pool=False)
    assert per_frame.shape == (2, 3, 24)
    for index, clip_frames in enumerate(video):
        assert relative_error(per_frame[index], reference.encode_image(clip_frames)) <= 1e-5
    pooled = model.encode_video(video)
    assert relative_error(pooled, reference.encode_video(video)) <= 1e-5
    normalised = model.encode_video(video, normalize=True)
    assert relative_error(normalised, nn.functional.normalize(reference.encode_video(video), dim=-1)) <= 1e-5
    for frames_per_chunk in (1, 2, 5, 6, 100):
        assert relative_error(model.encode_video(video, frames_per_chunk=frames_per_chunk), pooled) <= 1e-5
        chunked = model.encode_video(video, frames_per_chunk=frames_per_chunk, pool=False)
        assert relative_error(chunked, per_frame) <= 1e-5


def test_masked_frames_play_no_part():
    model, reference = wrap_tiny("4/4", **CARRIED)
    video = frames(reference.base, 2, 3)
    masked = model.encode_video(video, frame_mask=FRAME_MASK)
    assert relative_error(masked, model.encode_video(video)) > 0.1
    other = torch.where(FRAME_MASK[:, :, None, None, None], video, torch.nan)
    assert relative_error(model.encode_video(other, frame_mask=FRAME_MASK), masked) <= 1e-5
    every = torch.ones(2, 3, dtype=torch.bool)
    assert relative_error(model.encode_video(video, frame_mask=every), model.encode_video(video)) <= 1e-6


REFUSED = {
    "video of images": (
        lambda w: w.model.encode_video(VIDEO[0]),
        ValueError,
        r"shape \(B, T, 3, H, W\).*use encode_image",
    ),
    "image of a video": (
        lambda w: w.model.encode_image(VIDEO),
        ValueError,
        r"shape \(B, 3, H, W\).*use encode_video",
    ),
    "video of rank 3": (
        lambda w: w.model(VIDEO[0, 0]),
        ValueError,
        r"a video \(B, T, 3, H, W\) or images \(B, 3, H, W\), got \(3, 16, 16\)",
    ),
    "video of rank 3 alone": (
        lambda w: w.model.encode_video(VIDEO[0, 0]),
        ValueError,
        r"video must be of shape \(B, T, 3, H, W\), got \(3, 16, 16\)",
    ),
    "video for a tower without prompts": (lambda w: w.coop.encode_image(VIDEO), ValueError, "use encode_video"),
    "image uint8 for a tower without prompts": (
        lambda w: w.coop(VIDEO[0].byte()),
        TypeError,
        "image must be float, as open_clip's preprocess returns it, got torch.uint8",
    ),
    "video with one channel": (lambda w: w.model.encode_video(VIDEO[:, :, :1]), ValueError, "3 channels"),
    "video channels last": (
        lambda w: w.model.encode_video(VIDEO.permute(0, 1, 3, 4, 2)),
        ValueError,
        r"3 channels, \(B, T, 3, H, W\), got \(2, 3, 16, 16, 3\)",
    ),
    "video of another size": (
        lambda w: w.model.encode_video(VIDEO[..., :8]),
        ValueError,
        r"model's size \(16, 16\), got .*use its preprocess",
    ),
    "image of another size for timm": (
        lambda w: w.siglip.encode_image(VIDEO[0]),
        ValueError,
        r"model's size \(24, 24\), got \(3, 3, 16, 16\)",
    ),
    "video uint8": (lambda w: w.model.encode_video(VIDEO.byte()), TypeError, "video must be float, .*preprocess"),
    "video without frames": (
        lambda w: w.model.encode_video(VIDEO[:, :0]),
        ValueError,
        "video is empty: its shape is .*; pass at least one frame",
    ),
    "no video": (lambda w: w.model.encode_video(VIDEO[:0]), ValueError, r"video is empty: its shape is \(0, 3, "),
    "video is a list": (
        lambda w: w.model.encode_video([VIDEO]),
        TypeError,
        r"video must be a float tensor \(B, T, 3, H, W\), got list",
    ),
    "video is a generator": (
        lambda w: w.model.encode_video(frame for frame in VIDEO),
        TypeError,
        r"video must be a float tensor \(B, T, 3, H, W\), got generator",
    ),
    "video is complex": (
        lambda w: w.model.encode_video(VIDEO.to(torch.complex64)),
        TypeError,
        "video must be float, as open_clip's preprocess returns it, got torch.complex64",
    ),
    "video is None": (lambda w: w.model.encode_video(None), TypeError, "video must be a float tensor .*got NoneType"),
    "image is an array": (
        lambda w: w.model.encode_image(VIDEO[0].numpy()),
        TypeError,
        r"image must be a float tensor \(B, 3, H, W\), got ndarray",
    ),
    "video and image": (
        lambda w: w.model(VIDEO, image=VIDEO[0]),
        ValueError,
        "two names of one argument: pass one of them",
    ),
    "forward of strings": (lambda w: w.model("a.mp4"), TypeError, r"expected a video .* or images .*, got str"),
    "mask of another shape": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=MASK.T),
        ValueError,
        r"frame_mask must be of shape \(B, T\) = \(2, 3\), got \(3, 2\)",
    ),
    "mask of numbers": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=MASK.float()),
        TypeError,
        r"frame_mask must be a bool tensor \(B, T\), got torch.float32",
    ),
    "mask is a list": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=MASK.tolist()),
        TypeError,
        r"frame_mask must be a bool tensor \(B, T\), got list",
    ),
    "mask on another device": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=MASK.to("meta")),
        ValueError,
        r"frame_mask is on meta, the video on cpu: use frame_mask.to\('cpu'\)",
    ),
    "mask without a frame": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=torch.tensor([[True] * 3, [False] * 3])),
        ValueError,
        "masks every frame of video 1: leave out the video, or keep a frame",
    ),
    "mask for images": (
        lambda w: w.model(VIDEO[0], frame_mask=MASK),
        ValueError,
        "frame_mask belongs to a video .*, got images",
    ),
    "mask alone": (
        lambda w: w.model(text=IDS, frame_mask=MASK),
        ValueError,
        "frame_mask was passed without a video: pass both, or neither",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
