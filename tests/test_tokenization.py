"""The content of a text: its ids without the start and end that the tokenizer puts around every text."""

from __future__ import annotations

import open_clip
import pytest
import torch
from torch import Tensor

from tests.support.refusals import IDS
from vilt_prompt import scenario_features, wrap
from vilt_prompt.tokenization import content

START, END, PAD, COLUMNS = 1, 2, 0, 10


def tokenizer(start: list[int], end: list[int], pad: int) -> object:
    """Every letter is an id, "a" 3, with special tokens around them."""

    def tokenize(texts: list[str]) -> Tensor:
        rows = [[*start, *(ord(letter) - ord("a") + 3 for letter in text), *end] for text in texts]
        return torch.tensor([row + [pad] * (COLUMNS - len(row)) for row in rows])

    return tokenize


AROUND = {
    "a start and an end": ([START], [END], PAD),
    "an end alone": ([], [END], PAD),
    "padding with the end": ([START], [END], END),
    "padding of no other use": ([], [], PAD),
    "a language before and two ends": ([9, START], [END, END], PAD),
}


@pytest.mark.parametrize("text", ["", "a", "ab", "aa", "abcab"])
@pytest.mark.parametrize(("start", "end", "pad"), AROUND.values(), ids=AROUND)
def test_content_is_what_stands_between(start, end, pad, text):
    assert content(tokenizer(start, end, pad), text) == [ord(letter) - ord("a") + 3 for letter in text]


def test_content_keeps_special_tokens_that_are_in_the_text():
    tokenize = open_clip.SimpleTokenizer()
    assert content(tokenize, "a photo of") == tokenize.encode("a photo of")
    start = tokenize.encoder["<start_of_text>"]
    assert content(tokenize, "<start_of_text>") == [start]
    assert content(tokenize, "a <start_of_text>") == [*tokenize.encode("a"), start]
    assert content(tokenize, "<start_of_text> a") == [start, *tokenize.encode("a")]
    assert content(tokenize, "a <end_of_text>") == [*tokenize.encode("a"), tokenize.encoder["<end_of_text>"]]


def test_content_of_a_text_that_fills_every_column_and_has_no_end_token():
    rows = {"a b": [1, 5, 6], "": [1, 0, 0]}
    assert content(lambda texts: torch.tensor([rows[text] for text in texts]), "a b") == [5, 6]


REFUSED = {
    "tokenizer cannot be called": (
        lambda w: wrap(w.bare, K=2, ctx_init="a photo", tokenizer=7),
        TypeError,
        r"tokenizer must be the model's, open_clip.get_tokenizer\(...\), got int",
    ),
    "tokenizer returns lists": (
        lambda w: wrap(w.bare, K=2, ctx_init="a photo", tokenizer=lambda texts: [[1]]),
        TypeError,
        r"tokenizer must return a tensor of ids \(C, L\), got list",
    ),
    "tokenizer returns one row of ids": (
        lambda w: wrap(w.bare, K=2, ctx_init="a photo", tokenizer=lambda texts: torch.tensor([1, 2])),
        TypeError,
        r"tokenizer must return a tensor of ids \(C, L\), got torch.Size\(\[2\]\)",
    ),
    "tokenizer of lists": (
        lambda w: scenario_features(w.model, list, ["a"]),
        TypeError,
        r"tokenizer must return a tensor of ids \(C, L\), got list",
    ),
    "tokenizer of the first text alone": (
        lambda w: scenario_features(w.model, lambda texts: IDS[:1], ["a", "b"]),
        TypeError,
        r"tokenizer must return a tensor of ids \(C, L\), got torch.Size\(\[1, 24\]\)",
    ),
    "no tokenizer": (
        lambda w: scenario_features(w.model, None, ["a"]),
        TypeError,
        r"tokenizer must be the model's, open_clip.get_tokenizer\(...\), got NoneType",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
