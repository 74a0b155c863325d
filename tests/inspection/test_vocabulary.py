"""The tokens that are nearest to the prompts."""

from __future__ import annotations

import open_clip
import pytest

from tests.support.refusals import Words, tokenizer
from vilt_prompt import nearest_tokens

REFUSED = {
    "words of what is not wrapped": (lambda w: nearest_tokens(w.bare, Words()), TypeError, "still wrapped, got CLIP"),
    "words without a tokenizer": (
        lambda w: nearest_tokens(w.model, None),
        TypeError,
        r"a tokenizer with decode\(ids\), such as open_clip.get_tokenizer\(...\) returns, got NoneType",
    ),
    "words of a tokenizer that cannot decode": (
        lambda w: nearest_tokens(w.model, tokenizer),
        TypeError,
        r"a tokenizer with decode\(ids\), .*got function",
    ),
    "words of another model's tokenizer": (
        lambda w: nearest_tokens(w.model, open_clip.SimpleTokenizer()),
        ValueError,
        "the tokenizer has 49408 ids, the model 100: is it the tokenizer of this model",
    ),
    "no words": (
        lambda w: nearest_tokens(w.model, Words(), k=0),
        ValueError,
        "k=0 is out of range: it must be at least 1",
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
        r"k=101 is out of range: choose k in 1\.\.100",
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
