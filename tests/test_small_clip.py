"""The shipped small CLIP loads by open_clip's own means, and its captions train every text position."""

import random
import sys
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer

EXAMPLE = Path(__file__).parents[1] / "examples" / "small_clip"
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
def tokenizer() -> open_clip.tokenizer.HFTokenizer:
    return open_clip.get_tokenizer(f"local-dir:{FOLDER}")


@pytest.fixture
def example_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield
    for module in ("captions", "concepts", "tokenizer"):
        sys.modules.pop(module, None)


@pytest.fixture
def trimmed(example_modules: None) -> SimpleTokenizer:
    from tokenizer import trimmed_tokenizer

    return trimmed_tokenizer(8000, context_length=40)


def test_both_towers_have_twelve_blocks(model: open_clip.CLIP) -> None:
    assert len(model.visual.transformer.resblocks) == len(model.transformer.resblocks) == 12
    assert model.visual.image_size == (64, 64)
    assert model.visual.pool_type == "tok"
    assert model.text_pool_type == "argmax"
    assert model.context_length >= 40


def test_pictures_are_told_apart_by_their_words(
    model: open_clip.CLIP, tokenizer: open_clip.tokenizer.HFTokenizer
) -> None:
    preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")[2]
    assert preprocess.transforms[0].size == 64
    with torch.no_grad():
        classes = F.normalize(model.encode_text(tokenizer(["climbing", "surfing", "running"])), dim=-1)
        features = model.encode_image(torch.zeros(2, 3, 64, 64))
    similarity = classes @ classes.T
    assert (similarity - torch.eye(3)).max() < 0.9
    assert features.shape == (2, 128)
    assert features.isfinite().all()


@pytest.mark.parametrize("context_length", [None, 3, 8, 40, 77])
def test_ids_equal_those_of_open_clips_tokenizer(
    tokenizer: open_clip.tokenizer.HFTokenizer, trimmed: SimpleTokenizer, context_length: int | None
) -> None:
    ids = tokenizer(TEXTS, context_length=context_length)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, trimmed(TEXTS, context_length=context_length))


def test_end_of_text_is_the_largest_id(model: open_clip.CLIP, tokenizer: open_clip.tokenizer.HFTokenizer) -> None:
    ids = tokenizer(TEXTS)
    assert (ids.max(dim=1).values == model.vocab_size - 1).all()
    assert ((ids == model.vocab_size - 1).sum(dim=1) == 1).all()


def test_a_text_after_padding_is_unchanged_by_the_shared_id(tokenizer: open_clip.tokenizer.HFTokenizer) -> None:
    assert tokenizer("!!")[0, 1] != 0  # padding has id 0, which is also a "!" inside a word


def test_every_text_position_gets_gradients_from_captions(model: open_clip.CLIP, trimmed: SimpleTokenizer) -> None:
    from captions import CaptionWriter
    from concepts import Concept

    tags = ["climb", "climber", "mountain", "rock", "scale", "up", "sport", "wall", "rope", "high", "steep", "cliff"]
    writer = CaptionWriter(
        [
            Concept("climbing", "person-activity", tags, ["woman climbing", "man climbing"]),
            Concept("fox", "animal-mammal", ["face"], ["fox"]),
        ],
        trimmed,
    )
    random.seed(0)
    batches = 80
    hits = torch.zeros(model.context_length)
    for _ in range(batches):
        ids = writer.batch([0, 1])
        padded = F.pad(ids, (0, model.context_length - ids.shape[1]))
        model.zero_grad()
        model.encode_text(padded).sum().backward()
        hits += model.positional_embedding.grad.abs().amax(dim=1) > 0
    assert (hits[: 36 + 1] >= batches // 20).all(), f"batches that train each position: {hits.tolist()}"
    assert (hits > 0).all()
    assert hits[3] == batches
    assert hits[20] < batches


def test_the_folder_is_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "README.md"} <= {
        path.name for path in files
    }
    assert sum(path.stat().st_size for path in files) <= 10_000_000
