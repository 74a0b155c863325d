"""CoCa with prompts."""

from __future__ import annotations

import pytest
import torch

from tests.support.architectures import END, START, VOCABULARY
from tests.support.refusals import IDS, MASK, VIDEO, ids

REFUSED = {
    "CoCa: video and image": (
        lambda w: w.coca(VIDEO, image=VIDEO[0]),
        ValueError,
        "two names of one argument",
    ),
    "CoCa: mask for images": (
        lambda w: w.coca(VIDEO[0], IDS, frame_mask=MASK),
        ValueError,
        "frame_mask belongs to a video",
    ),
    "CoCa: mask without a frame": (
        lambda w: w.coca(VIDEO, IDS[:2], frame_mask=~MASK),
        ValueError,
        "masks every frame of video 0",
    ),
    "CoCa: video uint8": (lambda w: w.coca(VIDEO.byte(), IDS), TypeError, "video must be float"),
    "CoCa: video of another size": (lambda w: w.coca(VIDEO[..., :8], IDS), ValueError, r"model's size \(16, 16\)"),
    "CoCa: text is strings": (lambda w: w.coca(VIDEO, ["walking"]), TypeError, r"pass tokenizer\(texts\)"),
    "CoCa: no images": (
        lambda w: w.coca(None, IDS),
        ValueError,
        r"CoCa's forward needs images or a video, or image_latent= and image_embs=: .*encode_text\(text\)",
    ),
    "CoCa: half of the image": (
        lambda w: w.coca(None, IDS, image_latent=torch.randn(3, 32)),
        ValueError,
        "CoCa's forward needs images or a video, or image_latent= and image_embs=",
    ),
    "CoCa: video in double precision": (
        lambda w: w.coca(VIDEO.double(), IDS[:2]),
        TypeError,
        "video is torch.float64, the model torch.float32",
    ),
    "CoCa: id beyond the vocabulary": (
        lambda w: w.coca(VIDEO, ids(START, VOCABULARY, END)),
        ValueError,
        r"token ids must be in 0\.\.99",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
