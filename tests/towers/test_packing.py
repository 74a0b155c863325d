"""Texts of different lengths, and texts that begin alike, packed: exact, and no token is run twice."""

from __future__ import annotations

import pytest
import torch

from tests.reference.literal import learnable_tensors
from tests.support.architectures import END, ids_of
from tests.support.exactness import assert_exact, gradients, relative_error, wrap_tiny
from vilt_prompt.towers import packing

NAMES = [
    [5, 6, 7],
    [5, 6],  # begins the one before
    [5, 6, 8, 9, 10, 11, 12],
    [6, 5],
    [],
    [5, 6],  # again
    [20 + i for i in range(12)],
    [5, 6, 7, 8],
]
DISTINCT_BEGINNINGS = len(
    {tuple(text[:i]) for text in ([*name, END] for name in NAMES) for i in range(1, len(text) + 1)}
)


@pytest.fixture(params=["few rows, kept", "short rows, a group for each size, recomputed", "a row for each text"])
def policy(request, monkeypatch):
    if "short" in request.param:
        monkeypatch.setattr(packing, "ROW", 6)
        monkeypatch.setattr(packing, "WORTH_A_GROUP", 0)
        monkeypatch.setattr(packing, "TOO_MANY_TO_KEEP", 0)
    elif "each text" in request.param:
        monkeypatch.setattr(packing, "ROW", 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 2}, {"K": 1, "depth": 1}], ids=str)
@pytest.mark.parametrize("architecture", ["4/4", "custom_blocks", "custom_text"])
def test_packed_texts_equal_the_literal_computation(architecture, settings, dtype, policy):
    model, reference = wrap_tiny(architecture, dtype=dtype, **settings)
    assert_exact(model, reference, ids_of(NAMES))


def test_every_distinct_beginning_is_run_once():
    model, _ = wrap_tiny("4/4", K=2)
    rows = []
    for block in model.get_base_model().transformer.resblocks:
        block.mlp.register_forward_hook(lambda module, inputs, out: rows.append(inputs[0].shape[:-1].numel()))
    model.encode_text(ids_of(NAMES))
    # The start token too; and of the last layer, only the end tokens.
    assert rows == [1 + DISTINCT_BEGINNINGS] * 3 + [len(NAMES)]


def test_what_is_made_anew_is_not_kept(monkeypatch):
    model, _ = wrap_tiny("4/4", K=2)
    monkeypatch.setattr(packing, "ROW", 4)  # many rows: before each of them stand the keys of the prefix
    kept = {}
    for limit in (0, 10**9):
        monkeypatch.setattr(packing, "TOO_MANY_TO_KEEP", limit)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            features = model.encode_text(ids_of(NAMES))
        kept[limit] = (sum(sizes), gradients(learnable_tensors(model), features))
    assert kept[0][0] < 0.9 * kept[10**9][0]
    for name, gradient in kept[0][1].items():
        torch.testing.assert_close(gradient, kept[10**9][1][name])


def test_what_is_made_anew_draws_the_same_dropout(monkeypatch):
    model, _ = wrap_tiny("4/4", K=2)
    for block in model.train().get_base_model().transformer.resblocks:
        block.attn.dropout = 0.5
    found = []
    for limit in (0, 10**9):
        monkeypatch.setattr(packing, "TOO_MANY_TO_KEEP", limit)
        torch.manual_seed(0)
        found.append(gradients(learnable_tensors(model), model.encode_text(ids_of(NAMES))))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name])


def test_half_precision():
    model, reference = wrap_tiny("4/4", K=2)
    want = reference.encode_text(ids_of(NAMES))
    model.get_base_model().to(torch.bfloat16)
    assert relative_error(model.encode_text(ids_of(NAMES)).float(), want) < 0.05
    model.get_base_model().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert relative_error(model.encode_text(ids_of(NAMES)).float(), want) < 0.05


@pytest.mark.parametrize("names", [NAMES, NAMES[:1]], ids=["packed", "side by side"])
def test_dropout_takes_what_the_first_token_sees_too(names):
    model, _ = wrap_tiny("4/4", K=2)
    attention = model.get_base_model().transformer.resblocks[0].attn
    attention.dropout = 1.0
    nothing_seen = model.train().encode_text(ids_of(names))
    attention.out_proj.weight.data.zero_()
    torch.testing.assert_close(model.eval().encode_text(ids_of(names)), nothing_seen)


def test_long_texts_that_are_alike_share_a_row(monkeypatch):
    monkeypatch.setattr(packing, "ROW", 3)
    assert packing.in_rows([[5, 6, 7, 8], [9], [5, 6, 7, 8], [5, 6]]) == ([[3], [0, 2], [1]], [2, 4, 1])


@pytest.mark.parametrize(("most", "expected"), [(0, 7), (5, 7), (9, 5), (32, 1)])
def test_rows_hold_each_text_once_and_count_what_texts_begin_with_alike_once(most, expected, monkeypatch):
    monkeypatch.setattr(packing, "ROW", most)
    texts = [[*name, END] for name in NAMES]
    rows, lengths = packing.in_rows(texts)
    assert sorted(number for row in rows for number in row) == list(range(len(texts)))
    for row, length in zip(rows, lengths, strict=True):
        assert length == len({tuple(texts[number][:i]) for number in row for i in range(1, len(texts[number]) + 1)})
        assert length <= max(most, *(len(texts[number]) for number in row), 0)
    assert len(rows) == expected


def test_groups_are_of_up_to_a_power_of_two_tokens(monkeypatch):
    monkeypatch.setattr(packing, "WORTH_A_GROUP", 0)
    assert packing.group_by_length([3, 1, 8, 2, 4, 5, 9, 16]) == [[1], [3], [0, 4], [5, 2], [6, 7]]


def test_a_group_takes_those_that_cost_no_more_to_fill_up_than_another_group(monkeypatch):
    monkeypatch.setattr(packing, "WORTH_A_GROUP", 2 * (16 - 4))
    assert packing.group_by_length([2, 2, 4, 3]) == [[0, 1, 3, 2]]
    monkeypatch.setattr(packing, "WORTH_A_GROUP", 2 * (16 - 4) - 1)
    assert packing.group_by_length([2, 2, 4, 3]) == [[0, 1], [3, 2]]


@pytest.mark.parametrize(("last", "expected"), [([17], [[10, 11, 12]]), ([17, 20], [[10, 11], [12, 13]])])
def test_it_is_the_group_before_that_is_filled_up(last, expected, monkeypatch):
    monkeypatch.setattr(packing, "WORTH_A_GROUP", 300)
    assert packing.group_by_length([1] * 10 + [9, 12, *last]) == [[*range(10)], *expected]


@pytest.mark.parametrize(("limit", "groups"), [(0, 5), (200, 3), (10**6, 1)])
def test_groups_hold_each_text_once_and_the_longest_last(limit, groups, monkeypatch):
    monkeypatch.setattr(packing, "WORTH_A_GROUP", limit)
    lengths = [3, 1, 9, 2, 2, 30, 4, 17, 9]
    grouped = packing.group_by_length(lengths)
    assert sorted(number for group in grouped for number in group) == list(range(len(lengths)))
    assert all(lengths[group[-1]] == max(lengths[number] for number in group) for group in grouped)
    assert len(grouped) == groups
