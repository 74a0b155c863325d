"""Texts of different lengths, and texts that begin alike, packed: exact, and no token is run twice."""

from __future__ import annotations

import pytest
import torch

import vilt_prompt
from tests.support import zoo
from tests.support.architectures import CONTEXT_LENGTH, END, ids_of, of_unknown_kind
from tests.support.exactness import assert_exact, relative_error, wrap_tiny
from vilt_prompt.towers import packing
from vilt_prompt.towers.packing import PackedTexts

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


@pytest.fixture(params=["one row", "a few rows"])
def policy(request, monkeypatch):
    if "few" in request.param:
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


def test_texts_packed_beforehand_are_the_same_texts():
    model, _ = wrap_tiny("4/4", K=2)
    ids = ids_of(NAMES)
    packed = model.pack_text(ids)
    assert isinstance(packed, PackedTexts)
    expected = model.encode_text(ids)
    assert torch.equal(model.encode_text(packed), expected)
    assert torch.equal(model(text=packed)[1], model(text=ids)[1])
    with model.disable_adapter():
        torch.testing.assert_close(model.encode_text(packed), model.encode_text(ids))
    ids[0] = ids[1]  # the packing does not change with the ids
    assert torch.equal(model.encode_text(packed), expected)


def test_texts_of_which_packing_saves_nothing_are_packed_for_a_compiled_graph():
    model, _ = wrap_tiny("4/4", K=2)
    ids = ids_of([[5, 6], [7, 8], [9, 5]])
    packed = model.pack_text(ids)
    assert isinstance(packed, PackedTexts)
    torch.testing.assert_close(model.encode_text(packed), model.encode_text(ids))


@pytest.mark.parametrize("name", ["coca", "roberta", "siglip"])
def test_texts_that_cannot_be_packed_stay_token_ids(name):
    model = vilt_prompt.wrap(zoo.build(name), K=1, n_ctx=2)
    ids = zoo.text_ids(name, [1, 3, 2])
    unpacked = model.pack_text(ids)
    assert isinstance(unpacked, torch.Tensor)
    assert unpacked.shape[1] <= ids.shape[1]
    torch.testing.assert_close(model.encode_text(unpacked), model.encode_text(ids))
    assert not vars(ids)  # a mark for torch.compile would make an export of the caller's ids dynamic


def test_texts_in_blocks_of_an_unknown_kind_are_not_packed():
    model = of_unknown_kind(vilt_prompt.wrap(zoo.build("vit"), K=1, n_ctx=2))
    ids = zoo.text_ids("vit", [1, 3, 2])
    unpacked = model.pack_text(ids)
    assert isinstance(unpacked, torch.Tensor)
    torch.testing.assert_close(model.encode_text(unpacked), model.encode_text(ids))


def test_packed_texts_of_another_kind_of_model_are_refused():
    packed = wrap_tiny("4/4", K=2)[0].pack_text(ids_of(NAMES))
    for name in ("coca", "roberta"):
        model = vilt_prompt.wrap(zoo.build(name), K=1, n_ctx=2)
        with pytest.raises(TypeError, match="packed texts|tensor of token ids"):
            model.encode_text(packed)


def test_packed_texts_that_do_not_fit_beside_the_prompts_are_refused():
    model, _ = wrap_tiny("4/4", K=2)
    packed = model.pack_text(ids_of([[5] * (CONTEXT_LENGTH - 4), [5, 6]]))
    with pytest.raises(ValueError, match="are left once the 3 prompts are in"):
        model.encode_text(packed)


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


@pytest.mark.parametrize("most", [0, 5, 9, 16, 32])
def test_rows_hold_each_text_once_and_count_what_texts_begin_with_alike_once(most, monkeypatch):
    monkeypatch.setattr(packing, "ROW", most)
    texts = [[*name, END] for name in NAMES]
    rows = packing.in_rows(texts)
    assert sorted(number for row in rows for number in row) == list(range(len(texts)))
    lengths = [
        len({tuple(texts[number][:i]) for number in row for i in range(1, len(texts[number]) + 1)}) for row in rows
    ]
    assert max(lengths) <= max(most, *map(len, texts))
    # No text of a row would have had room in the row before.
    for row, after, length in zip(rows, rows[1:], lengths, strict=False):
        beginnings = {tuple(texts[number][:i]) for number in row for i in range(1, len(texts[number]) + 1)}
        first = texts[after[0]]
        added = sum(tuple(first[:i]) not in beginnings for i in range(1, len(first) + 1))
        assert length + added > max(most, *map(len, texts))


def test_texts_in_the_order_of_their_ids_are_alike():
    assert packing.in_rows([[5, 6, 7, 8], [9], [5, 6, 7, 8], [5, 6]]) == [[3, 0, 2, 1]]


def test_the_index_tensors_of_three_texts():
    packed = packing.pack([[5, 9], [5, 6, 9], [7, 9]], torch.tensor([[1]]))
    # In the order of their ids: 5 6 9, then 5 9, then 7 9; the beginning 5 is run once.
    assert packed.first.tolist() == [[1]]
    assert packed.ids.tolist() == [5, 6, 9, 9, 7, 9]
    assert packed.columns.tolist() == [0, 1, 2, 1, 0, 1]
    assert packed.row_tokens.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert packed.token_places.tolist() == [0, 1, 2, 3, 4, 5]
    assert packed.ends.tolist() == [3, 2, 5]
    assert packed.row_texts.tolist() == [[1, 0, 2]]
    assert packed.text_places.tolist() == [1, 0, 2]
    seen = [[0], [0, 1], [0, 1, 2], [0, 3], [4], [4, 5]]
    assert [row.nonzero().flatten().tolist() for row in packed.seen[0]] == seen
    assert [row.nonzero().flatten().tolist() for row in packed.seen_at_ends[0]] == [seen[2], seen[3], seen[5]]
    assert packed.longest == 4
