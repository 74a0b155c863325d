"""Hugging Face text encoders."""

from __future__ import annotations

import pytest
import torch

from tests.support.every_tower import LENGTHS, wrapped_with_reference
from tests.support.exactness import relative_error
from tests.support.zoo import EVERY, text_ids


@pytest.mark.parametrize("name", ["coca", "roberta", "xlm_roberta", "nllb"])
def test_texts_that_begin_with_padding_are_an_error(name):
    model, _ = wrapped_with_reference(name, K=2)
    ids = text_ids(name, LENGTHS)
    padding = EVERY[name].tokens[2]
    ids[2] = ids[2].roll(2)
    assert ids[2, 0] == padding
    with pytest.raises(ValueError, match=rf"text 2 begins with padding \(id {padding}\) instead of a start token"):
        model.encode_text(ids)
    with model.disable_adapter():
        assert model.encode_text(ids).isfinite().all()


@pytest.mark.parametrize("name", ["mt5", "bert_cls"])
def test_texts_that_begin_with_padding_are_exact_where_places_do_not_depend_on_it(name):
    model, reference = wrapped_with_reference(name, K=2)
    ids = text_ids(name, LENGTHS)
    ids[2] = ids[2].roll(2)
    assert relative_error(model.encode_text(ids, normalize=False), reference.encode_text(ids)) <= 1e-5


REFUSED = {
    "nothing but padding": (
        lambda w: w.roberta.encode_text(torch.ones(2, 8, dtype=torch.long)),
        ValueError,
        r"text 0 is nothing but padding \(id 1\): pass tokenizer\(texts\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
