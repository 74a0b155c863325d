"""The shipped small CLIP loads by open_clip's own means, and its captions train every text position."""

import random
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from PIL import Image

import vilt_prompt
from examples.small_clip.captions import CaptionWriter
from examples.small_clip.concepts import Concept, concept_name
from examples.small_clip.stages import encode_captions
from examples.small_clip.tokenizer import trimmed_tokenizer

EXAMPLE = Path(__file__).parents[2] / "examples" / "small_clip"
FOLDER = EXAMPLE / "emoji-vit-12x128"
TEXTS = [
    "a video of a person doing riding a manual wheelchair.",
    "Wow!!! it's 100% & ünïcödé 日本 \N{GRINNING FACE}, don't a!b",
    "  two   spaces\tand &amp; more ",
    "!",
    "",
    "word " * 60,
]


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")[0].eval()


@pytest.fixture(scope="module")
def tokenizer() -> HFTokenizer:
    return open_clip.get_tokenizer(f"local-dir:{FOLDER}")


@pytest.fixture
def trimmed() -> SimpleTokenizer:
    return trimmed_tokenizer(8000, context_length=40)


def test_both_towers_have_twelve_blocks(model: open_clip.CLIP) -> None:
    assert len(model.visual.transformer.resblocks) == len(model.transformer.resblocks) == 12
    assert model.visual.image_size == (64, 64)
    assert model.visual.pool_type == "tok"
    assert model.text_pool_type == "argmax"
    assert model.context_length >= 40


def test_it_takes_another_image_size_and_context_length() -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(
        f"local-dir:{FOLDER}", force_image_size=96, force_context_length=24
    )
    wrapped = vilt_prompt.wrap(model, K=6, n_ctx=4).eval()
    image = preprocess(Image.new("RGB", (120, 100), "red"))[None]
    assert image.shape == (1, 3, 96, 96)
    with torch.no_grad():
        assert wrapped.encode_image(image).isfinite().all()
        assert wrapped.encode_text(torch.tensor([[1, 2, model.vocab_size - 1]])).isfinite().all()


def test_both_towers_encode(model: open_clip.CLIP, tokenizer: HFTokenizer) -> None:
    with torch.no_grad():
        classes = F.normalize(model.encode_text(tokenizer(["climbing", "surfing", "running"])), dim=-1)
        images = F.normalize(model.encode_image(torch.randn(2, 3, 64, 64)), dim=-1)
    assert images.shape == (2, 128)
    assert images.isfinite().all()
    assert (classes @ classes.T - torch.eye(3)).max() < 0.9


@pytest.mark.parametrize("context_length", [None, 3, 8, 40, 77])
def test_ids_equal_those_of_open_clips_tokenizer(
    tokenizer: HFTokenizer, trimmed: SimpleTokenizer, context_length: int | None
) -> None:
    ids, want = tokenizer(TEXTS, context_length=context_length), trimmed(TEXTS, context_length=context_length)
    assert ids.dtype == torch.int64
    for row, theirs in zip(ids, want, strict=True):
        length = int(theirs.argmax()) + 1  # up to the end token, behind which open_clip pads with 0
        assert torch.equal(row[:length], theirs[:length])
        assert (row[length:] == trimmed.eot_token_id).all()


def test_end_of_text_is_the_largest_id(model: open_clip.CLIP, tokenizer: HFTokenizer) -> None:
    assert (tokenizer(TEXTS).max(dim=1).values == model.vocab_size - 1).all()


def test_features_do_not_depend_on_padding(
    model: open_clip.CLIP, tokenizer: HFTokenizer, trimmed: SimpleTokenizer
) -> None:
    with torch.no_grad():
        assert torch.equal(model.encode_text(tokenizer(TEXTS)), model.encode_text(trimmed(TEXTS)))


def test_every_text_position_gets_gradients_from_captions(model: open_clip.CLIP, trimmed: SimpleTokenizer) -> None:
    tags = ["climb", "climber", "mountain", "rock", "scale", "up", "sport", "wall", "rope", "high", "steep", "cliff"]
    writer = CaptionWriter(
        [
            Concept("climbing", "person-activity", tags, ["woman climbing", "man climbing"]),
            Concept("fox", "animal-mammal", ["face"], ["fox"]),
        ],
        trimmed,
    )
    random.seed(0)
    batches = 40
    hits = torch.zeros(model.context_length)
    for _ in range(batches):
        ids = writer.batch([0, 1])
        padded = F.pad(ids, (0, model.context_length - ids.shape[1]))
        model.zero_grad()
        model.encode_text(padded).sum().backward()
        hits += model.positional_embedding.grad.abs().amax(dim=1) > 0
    # With 10 or 16 prompts the end of text stands at positions 13 to 23: many captions must be longer than that.
    assert (hits > 0).all(), f"batches that train each position: {hits.tolist()}"
    assert hits[23] >= batches // 4
    assert hits[36] >= batches // 20
    assert hits[20] < batches  # and some must be short


def test_training_crops_captions_exactly(model: open_clip.CLIP, tokenizer: HFTokenizer) -> None:
    ids = tokenizer(TEXTS[:4])
    with torch.no_grad():
        torch.testing.assert_close(encode_captions(model, ids), F.normalize(model.encode_text(ids), dim=-1))


def test_gender_and_direction_are_no_part_of_a_concept() -> None:
    labels = ["woman walking: facing right", "man walking", "person: red hair", "family: man, woman, boy", "keycap: #"]
    assert [concept_name(label) for label in labels] == ["walking", "walking", "red hair", "family: boy", "keycap: #"]


def test_the_folder_is_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "README.md"} <= {
        path.name for path in files
    }
    assert sum(path.stat().st_size for path in files) <= 10_000_000
