"""CoCa with prompts."""

from __future__ import annotations

import pytest
import torch
from open_clip.coca_model import _has_transformers
from torch import Tensor

from tests.reference.literal import literal_coca, literal_encode_image_tokens, literal_encode_text_tokens
from tests.support.architectures import END, START, VOCABULARY
from tests.support.every_tower import LENGTHS, N_CTX, WITH_VIT, wrapped_with_reference
from tests.support.exactness import relative_error
from tests.support.refusals import IDS, MASK, VIDEO, ids
from tests.support.zoo import EVERY, frames, text_ids

COCAS = [name for name in WITH_VIT if EVERY[name].decoder is not None]


@pytest.mark.parametrize("correct_cls_mask", [False, True])
@pytest.mark.parametrize("name", ["coca", "coca_custom"])
def test_both_of_cocas_masks(name, correct_cls_mask):
    model, reference = wrapped_with_reference(name, K=2)
    for clip in (model.get_base_model(), reference.base):
        clip.text.correct_cls_mask = correct_cls_mask
    ids = text_ids(name, LENGTHS)
    assert relative_error(model.encode_text(ids, normalize=False), reference.encode_text(ids)) <= 1e-5
    with pytest.raises(ValueError, match="text 0 begins with padding"):
        model.encode_text(torch.zeros_like(ids))


@pytest.mark.parametrize("output_labels", [True, False])
@pytest.mark.parametrize("name", COCAS)
def test_coca_gives_what_the_literal_computation_gives(name, output_labels):
    model, reference = wrapped_with_reference(name, K=2)
    images, video, ids = (
        frames(model, 3),
        frames(model, 3, 2, seed=1),
        text_ids(name, LENGTHS[:3], model.context_length),
    )
    mask = torch.tensor([[True, False], [True, True], [False, True]])
    text, vision = reference.prompts()
    kept = ids.shape[1] - (0 if "hf" in EVERY[name].text else N_CTX)

    def compare(got: dict, want: dict) -> None:
        assert got.keys() == want.keys()
        for key, tensor in want.items():
            if key == "logits":  # those at padding that made room mean nothing
                assert got[key].shape == tensor.shape
                got[key], tensor = got[key][:, : kept - output_labels], tensor[:, : kept - output_labels]
            assert relative_error(got[key], tensor) <= 1e-5, key

    want = literal_coca(reference.base, images, ids, text, vision, output_labels)
    compare(model(images, ids, output_labels=output_labels), want)

    encoded = [
        [part.mean(0) for part in literal_encode_image_tokens(reference.base, clip[seen], vision)]
        for clip, seen in zip(video, mask, strict=True)
    ]
    latent, tokens = (torch.stack(parts) for parts in zip(*encoded, strict=True))
    _, text_tokens = literal_encode_text_tokens(reference.base, ids, text)
    want["image_features"] = torch.nn.functional.normalize(latent, dim=-1)
    want["logits"] = reference.base.text_decoder(tokens, text_tokens[:, :-1] if output_labels else text_tokens)
    compare(model(video, ids, output_labels=output_labels, frame_mask=mask), want)


def greedy(model, images, steps: int = 6) -> Tensor:
    """Captions by the likeliest next token, (B, 1 + steps)."""
    ids = torch.full((len(images), 1), 98)
    for _ in range(steps):
        logits = model(images, ids, output_labels=False)["logits"][:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids


@pytest.mark.parametrize("name", ["coca", "coca_base"])
def test_captions_one_token_after_another(name):
    model, reference = wrapped_with_reference(name, K=2)
    images = frames(model, 3)
    with torch.no_grad():
        captions = greedy(model, images)
        assert not torch.equal(captions, greedy(reference.base, images))
        with model.disable_adapter():
            assert torch.equal(greedy(model, images), greedy(reference.base, images))


@pytest.mark.skipif(
    not _has_transformers, reason="open_clip's CoCa.generate needs BeamSearchScorer, gone from transformers 5"
)
@pytest.mark.parametrize("generation_type", ["beam_search", "top_k"])
def test_coca_generates_captions(generation_type):
    model, reference = wrapped_with_reference("coca", K=2)
    images = frames(model, 2)
    special = {"sot_token_id": 98, "eos_token_id": 99, "pad_token_id": 0}
    arguments = {
        **special,
        "generation_type": generation_type,
        "seq_len": 10,
        "num_beams": 4,
        "num_beam_groups": 2,
        "top_k": 1,
    }

    def generate(clip) -> Tensor:
        return clip.generate(images, **arguments)

    captions = generate(model.get_base_model())
    assert captions.shape[0] == 2
    assert captions[:, 0].eq(98).all()
    with model.disable_adapter():
        assert torch.equal(generate(model.get_base_model()), generate(reference.base))
    assert not torch.equal(captions, generate(reference.base))


@pytest.mark.skipif(_has_transformers, reason="open_clip's CoCa.generate works with this version of transformers")
def test_generating_captions_says_what_it_needs():
    model, _ = wrapped_with_reference("coca", K=2)
    with pytest.raises(
        ValueError, match=r'needs BeamSearchScorer, which transformers 5 has removed: .*"transformers<5"'
    ):
        model.generate(frames(model, 2))


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
