"""Layers under a causal mask: prompts and start token as one prefix that all texts share."""

from __future__ import annotations

import pytest
import torch

from tests.reference.literal import learnable_tensors, literal_encode_text, text_blocks
from tests.support.architectures import CONTEXT_LENGTH, END, START, class_ids, of_unknown_kind
from tests.support.cases import CARRIED
from tests.support.every_tower import ids_with_room, wrapped_with_reference
from tests.support.exactness import (
    NAME_LENGTHS,
    assert_exact,
    assert_same_gradients,
    gradients,
    relative_error,
    wrap_tiny,
)


def test_rows_may_start_with_different_tokens():
    model, reference = wrap_tiny("4/4", **CARRIED)
    ids = class_ids(reference.base, NAME_LENGTHS)
    ids[1, 0], ids[3, 0] = 5, 6
    got, want = model.encode_text(ids), reference.encode_text(ids)
    assert relative_error(got, want) <= 1e-5
    got_gradients, want_gradients = gradients(learnable_tensors(model), got), gradients(reference.tensors, want)
    assert_same_gradients(got_gradients, want_gradients, 1e-4, "shared")


def test_a_class_does_not_depend_on_the_others():
    model, reference = wrap_tiny("4/4", **CARRIED)
    ids = class_ids(reference.base, [1, 9, 4, 4, 0])
    together = model.encode_text(ids)
    apart = torch.cat([model.encode_text(row[None]) for row in ids])
    assert relative_error(together, apart) <= 1e-5
    order = torch.tensor([3, 0, 4, 2, 1])
    assert relative_error(model.encode_text(ids[order]), together[order]) <= 1e-5


@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 3}, {"K": 1, "depth": 1}], ids=str)
@pytest.mark.parametrize("whole", [False, True], ids=["in pieces", "whole"])
@pytest.mark.parametrize("name", ["vit", "coca"])
def test_texts_of_different_starts(name, whole, settings):
    model, reference = wrapped_with_reference(name, **settings)
    ids = ids_with_room(name).clone()
    ids[1, 0], ids[2, 0] = 5, 6
    assert_exact(of_unknown_kind(model) if whole else model, reference, ids)


@pytest.mark.parametrize("names", [[[5, 5, 5], [5, 5]], [[5, 5], [7, 5], [5], [5, 5, 7, 7, 7]], [[99 - 4] * 9, []]])
def test_words_that_repeat(names):
    model, reference = wrap_tiny("4/4", K=2)
    ids = torch.zeros(len(names), CONTEXT_LENGTH, dtype=torch.long)
    for row, name in zip(ids, names, strict=True):
        row[: len(name) + 2] = torch.tensor([START, *name, END])
    assert_exact(model, reference, ids)


@pytest.mark.parametrize("lengths", [[3], [3, 3], [1, 3, 2]], ids=str)
@pytest.mark.parametrize("whole", [False, True], ids=["in pieces", "whole"])
def test_short_texts_without_any_prompt(lengths, whole):
    """open_clip itself takes texts of its full length alone."""
    model, reference = wrap_tiny("4/4", K=2)
    whole and of_unknown_kind(model)
    full = class_ids(reference.base, lengths)
    short = class_ids(reference.base, lengths, columns=9)
    want = literal_encode_text(reference.base, full, [None] * len(text_blocks(reference.base)))
    with model.disable_adapter():
        assert relative_error(model.encode_text(short), want) <= 1e-5
