"""The tokens that are nearest to the prompts."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch

import vilt_prompt
from tests.support.architectures import build
from tests.support.exactness import randomise_prompts
from tests.support.refusals import Words
from tests.support.refusals import tokenizer as without_decode
from vilt_prompt import nearest_tokens

ROOT = Path(__file__).resolve().parents[2]


def test_without_text_prompts_there_are_no_words():
    words = nearest_tokens(vilt_prompt.wrap(build("2/2"), method="vpt_deep"), Words())
    assert words.vectors == ()
    assert str(words) == "adapter 'default' has no text prompts"
    assert words._repr_html_() == "<p>adapter &#x27;default&#x27; has no text prompts</p>"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_nearest_tokens_are_the_nearest(dtype):
    clip = build("4/4").to(dtype)
    model = vilt_prompt.wrap(clip, K=2, n_ctx=3)
    randomise_prompts(model)
    words = nearest_tokens(model, Words(), k=100)
    for row in words.vectors:
        vector = model.layer_prompts().text[row.layer - 1][row.vector - 1]
        distances = [float((vector - token.float()).square().sum().sqrt()) for token in clip.token_embedding.weight]
        assert sorted(range(100), key=distances.__getitem__)[:20] == [token.token_id for token in row.tokens[:20]]
        assert [token.distance for token in row.tokens] == pytest.approx(sorted(distances), rel=1e-4)
        assert all(token.word == f"w{token.token_id}" for token in row.tokens)
    assert [row.prompt for row in words.vectors[::3]] == ["P_1", "P_2", "F~(P~_3)", "F~(P~_4)"]
    shorter = nearest_tokens(model, Words(), k=2)
    assert [row.tokens for row in shorter.vectors] == [row.tokens[:2] for row in words.vectors]


def test_start_tokens_are_found_by_their_words():
    base = f"local-dir:{ROOT}/examples/small_clip/emoji-vit-12x128"
    clip = open_clip.create_model(base)
    hugging_face = open_clip.get_tokenizer(base)
    model = vilt_prompt.wrap(clip, method="coop", n_ctx=6, ctx_init="a juggling video", tokenizer=hugging_face)
    ids = model.peft_config["default"].ctx_init
    for tokenizer in (hugging_face, hugging_face.tokenizer):  # open_clip's, and transformers' own
        nearest = [row.tokens[0] for row in nearest_tokens(model, tokenizer).vectors[: len(ids)]]
        assert [token.token_id for token in nearest] == ids
        assert [token.distance for token in nearest] == [0.0] * len(ids)
        words = "".join(f"{token.word} " for token in nearest).replace("- ", "").strip()
        assert words == "a juggling video"


def test_pieces_of_words_have_a_hyphen():
    clip = open_clip.CLIP(
        16,
        vision_cfg={"width": 48, "head_width": 16, "layers": 2, "patch_size": 112},
        text_cfg={"width": 32, "heads": 2, "layers": 2},
    )
    tokenizer = open_clip.SimpleTokenizer()
    ids = [tokenizer.encoder[word] for word in ("the", "the</w>", "<end_of_text>")]
    model = vilt_prompt.wrap(clip, method="coop", n_ctx=3, ctx_init=ids)
    nearest = nearest_tokens(model, tokenizer, k=1)
    assert [row.tokens[0].word for row in nearest.vectors] == ["the-", "the", "<end_of_text>"]


def test_a_tokenizer_that_does_not_say_how_many_ids_it_has():
    class OnlyDecodes:
        def decode(self, ids: list[int]) -> str:
            return "word"

    model = vilt_prompt.wrap(build("2/2"), method="coop", n_ctx=3)
    assert nearest_tokens(model, OnlyDecodes(), k=100).vectors[0].tokens[99].word == "word"
    with pytest.raises(ValueError, match=r"expected k in 1\.\.100 \(the number of tokens in the vocabulary\), got 101"):
        nearest_tokens(model, OnlyDecodes(), k=101)


REFUSED = {
    "words of a bare model": (
        lambda w: nearest_tokens(w.bare, Words()),
        TypeError,
        "still wrapped, got CLIP",
    ),
    "words without a tokenizer": (
        lambda w: nearest_tokens(w.model, None),
        TypeError,
        r"a tokenizer with decode\(ids\), such as open_clip.get_tokenizer\(...\) returns, got NoneType",
    ),
    "words of a tokenizer that cannot decode": (
        lambda w: nearest_tokens(w.model, without_decode),
        TypeError,
        r"a tokenizer with decode\(ids\), .*got function",
    ),
    "words of another model's tokenizer": (
        lambda w: nearest_tokens(w.model, open_clip.SimpleTokenizer()),
        ValueError,
        "the tokenizer has 49408 ids, the model 100: use the tokenizer of this model",
    ),
    "no words": (
        lambda w: nearest_tokens(w.model, Words(), k=0),
        ValueError,
        "expected k of at least 1, got 0",
    ),
    "words by a truth value": (
        lambda w: nearest_tokens(w.model, Words(), k=True),
        TypeError,
        "k must be an integer, got True",
    ),
    "half a word": (
        lambda w: nearest_tokens(w.model, Words(), k=1.5),
        TypeError,
        "k must be an integer, got 1.5",
    ),
    "more words than there are": (
        lambda w: nearest_tokens(w.model, Words(), k=101),
        ValueError,
        r"expected k in 1\.\.100 \(the number of tokens in the vocabulary\), got 101",
    ),
    "words on the meta device": (
        lambda w: nearest_tokens(w.meta, Words()),
        ValueError,
        "on the meta device, its embeddings have no values: load its weights first",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
