"""How open_clip's own text towers read token ids: which columns run, and where a text ends."""

from __future__ import annotations

import pytest
import torch

from tests.support.architectures import CONTEXT_LENGTH, END, build, class_ids, eos_pooled_id
from tests.support.cases import CARRIED
from tests.support.exactness import N_CTX, NAME_LENGTHS, relative_error, wrap_tiny
from vilt_prompt.towers.open_clip_ids import IdReader

LENGTHS = [1, 3, 2]  # of names, so that texts end in columns 2, 4 and 3


@pytest.mark.parametrize("architecture", ["4/4", "eos_pool", "custom_text", "custom_text_eos_pool"])
def test_under_a_causal_mask_no_column_after_the_last_end_token_runs(architecture):
    clip = build(architecture)
    reader, ids = IdReader(getattr(clip, "text", clip)), class_ids(clip, LENGTHS)
    texts = reader.fit(ids, N_CTX, with_tokens=False)
    assert torch.equal(texts.ids, ids[:, :5])
    assert reader.pooled(texts.ids, texts).tolist() == [2, 4, 3]
    assert texts.seen is None


def test_columns_run_as_far_as_there_is_room_if_all_outputs_are_read():
    clip = build("4/4")
    reader, ids = IdReader(clip), class_ids(clip, LENGTHS)
    assert torch.equal(reader.fit(ids, N_CTX, with_tokens=True).ids, ids[:, : CONTEXT_LENGTH - N_CTX])
    assert torch.equal(reader.fit(ids, 0, with_tokens=True).ids, ids)


@pytest.mark.parametrize("architecture", ["4/4", "eos_pool"])
def test_packed_texts_hold_each_shared_beginning_once(architecture):
    """[SOS, a, b, EOS], [SOS, a, c, EOS] and [SOS, a, EOS]: after SOS, a runs once, then b, c and three end tokens."""
    clip = build(architecture)
    start, *_, end = class_ids(clip, [1], 3)[0].tolist()
    ids = torch.tensor([[start, 5, 6, end], [start, 5, 7, end], [start, 5, end, 0]])
    reader = IdReader(clip)
    packed = reader.packed(reader.fit(ids, N_CTX, with_tokens=False))
    assert sorted(packed.ids.tolist()) == sorted([5, 6, 7, end, end, end])
    assert packed.ids[packed.ends].tolist() == [end] * 3
    assert packed.columns[packed.ends].tolist() == [2, 2, 1]
    assert packed.longest == 4


def test_texts_that_begin_with_different_tokens_are_not_packed():
    clip = build("4/4")
    ids = class_ids(clip, LENGTHS)
    ids[1, 0] = 4
    reader = IdReader(clip)
    assert reader.packed(reader.fit(ids, N_CTX, with_tokens=False)) is None


@pytest.mark.parametrize("architecture", ["4/4", "eos_pool"])
def test_rows_padded_with_the_end_token_are_pooled_at_the_first(architecture):
    model, reference = wrap_tiny(architecture, **CARRIED)
    ids = class_ids(reference.base, NAME_LENGTHS)
    end = eos_pooled_id(reference.base) or END
    padded = ids.masked_fill(ids == 0, end)
    assert relative_error(model.encode_text(padded), reference.encode_text(ids)) <= 1e-5
