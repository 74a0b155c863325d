"""Statistics of token ids against loops over the ids: padding, starts and ends, and room."""

from __future__ import annotations

import gc

import open_clip
import pytest
import torch
from torch import nn

import vilt_prompt
from tests.support import architectures, zoo
from tests.support.architectures import build, class_ids
from tests.support.refusals import IDS, VIDEO, ids
from vilt_prompt import scenario_features
from vilt_prompt.towers import token_ids
from vilt_prompt.towers.token_ids import (
    check_ids,
    check_room,
    check_start,
    check_values,
    filled,
    make_room,
    once_for,
)

START, END, PAD = 1, 2, 0
VOCABULARY, COLUMNS = 12, 6
EMBEDDING = torch.zeros(VOCABULARY, 4)
TEXTS = torch.tensor([[START, 5, END, 0, 0, 0], [START, 5, 5, 5, END, 0], [START, END, 0, 0, 0, 0]])


def slow_filled(row: list[int]) -> int:
    """All columns but the padding: of the trailing run of one id, the first counts."""
    while len(row) > 1 and row[-1] == row[-2]:
        row = row[:-1]
    return len(row)


def test_of_a_trailing_run_one_is_kept():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(2, (200, COLUMNS), generator=generator)
    assert filled(rows).tolist() == [slow_filled(row) for row in rows.tolist()]
    assert {1, COLUMNS} <= set(filled(rows).tolist())


@pytest.mark.parametrize("columns", [[2, 4, 1], [1, 1, 1]], ids=str)
def test_facts(columns):
    facts = check_values(TEXTS, VOCABULARY, torch.tensor(columns))
    assert (facts.filled, facts.shared_start, facts.last_end) == (6, True, max(columns))
    assert check_values(TEXTS[[0, 2]], VOCABULARY).filled == 4
    assert check_values(TEXTS, VOCABULARY).last_end is None


def test_one_start_of_another_kind():
    for row in range(3):
        texts = TEXTS.clone()
        texts[row, 0] = 7
        assert check_values(texts, VOCABULARY).shared_start is False
    texts = TEXTS.clone()
    texts[:, 1] = torch.tensor([5, 6, 7])
    assert check_values(texts, VOCABULARY).shared_start is True
    assert check_values(texts[:1], VOCABULARY).shared_start is True


def test_the_vocabulary_ends_where_it_does():
    for extreme in (0, VOCABULARY - 1):
        assert check_values(torch.tensor([[START, extreme, END]]), VOCABULARY)
    for beyond, message in ((-1, r"0\.\.11, got -1\.\.2"), (VOCABULARY, r"0\.\.11, got 1\.\.12")):
        with pytest.raises(ValueError, match=f"token ids must be in {message}: use the tokenizer of this model"):
            check_values(torch.tensor([[START, beyond, END]]), VOCABULARY)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_the_text_without_an_end_is_named(row):
    columns = torch.tensor([2, 4, 1])
    columns[row] = 0
    with pytest.raises(ValueError, match=rf"text {row} has no end token after its start token"):
        check_values(TEXTS, VOCABULARY, columns)


def test_shapes_that_fit_exactly():
    check_ids(torch.ones(COLUMNS + 1, COLUMNS, dtype=torch.long), COLUMNS, EMBEDDING)  # more texts than positions
    check_ids(torch.ones(1, 1, dtype=torch.int32), 1, EMBEDDING)
    with pytest.raises(ValueError, match=r"7 columns, the tower has 6 positions: use .*context_length=6"):
        check_ids(torch.ones(1, COLUMNS + 1, dtype=torch.long), COLUMNS, EMBEDDING)


def test_texts_that_are_empty_or_elsewhere():
    with pytest.raises(ValueError, match=r"text is empty: its shape is \(0, 6\); pass at least one text"):
        check_ids(TEXTS[:0], COLUMNS, EMBEDDING)
    with pytest.raises(ValueError, match=r"text is on meta, the model on cpu: use text\.to\('cpu'\)"):
        check_ids(TEXTS.to("meta"), COLUMNS, nn.Parameter(EMBEDDING))


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_room(n):
    """Rows 0 and 2 take 4 columns and 3 with one of padding, of 6."""
    texts = TEXTS[[0, 2]]
    facts = check_values(texts, VOCABULARY)
    if n <= 2:
        check_room(4, COLUMNS, n)
        assert torch.equal(make_room(texts, facts, COLUMNS, n), texts[:, : COLUMNS - n])
    else:
        for call in (lambda: check_room(4, COLUMNS, n), lambda: make_room(texts, facts, COLUMNS, n)):
            with pytest.raises(
                ValueError, match=r"takes 4 tokens, but 3 are left once the 3 prompts are in.*context_length=3\)"
            ):
                call()
    assert torch.equal(make_room(texts, None, COLUMNS, n), texts[:, : COLUMNS - n])  # nothing is known: no error
    many = texts[:1].expand(COLUMNS + 1, -1)[:, :3]
    assert torch.equal(make_room(many, check_values(many, VOCABULARY), COLUMNS, n), many)  # three columns always fit


@pytest.mark.parametrize("row", [0, 1, 2])
def test_the_text_that_begins_with_padding_is_named(row):
    check_start(TEXTS, PAD)
    texts = TEXTS.clone()
    texts[row, 0] = PAD
    with pytest.raises(ValueError, match=rf"text {row} begins with padding \(id 0\) instead of a start token"):
        check_start(texts, PAD)


def test_what_is_made_of_ids_is_kept_until_they_change():
    text, calls = torch.tensor([[5, 6, 7]]), []

    def count(key: str = "a") -> int:
        return once_for(text, key, lambda: calls.append(key) or len(calls))

    assert [count(), count(), count("b"), count()] == [1, 1, 2, 1]
    text[0, 1] = 8  # in place: the kept result belongs to other ids
    assert [count(), count()] == [3, 3]
    same = text.clone()
    once_for(same, "a", lambda: calls.append("clone"))
    assert calls == ["a", "b", "a", "clone"]


def test_nothing_is_kept_of_ids_that_are_gone():
    before = len(token_ids._MADE)
    text = torch.tensor([[5, 6, 7]])
    once_for(text, "a", lambda: 1)
    assert len(token_ids._MADE) == before + 1
    del text
    gc.collect()
    assert len(token_ids._MADE) == before


def test_inference_tensors_are_read_each_time():
    with torch.inference_mode():
        text, calls = torch.tensor([[5, 6, 7]]), []
        for _ in range(2):
            once_for(text, "a", lambda: calls.append(1))
    assert len(calls) == 2


def test_ids_changed_in_place_and_used_in_inference_first():
    """The features always belong to the current ids, also in training after inference."""
    clip = build("4/4")
    ids = class_ids(clip, [1, 2, 2, 3, 4])
    model = vilt_prompt.wrap(clip, K=2, n_ctx=3)
    with torch.inference_mode():
        model.encode_text(ids)
    model.encode_text(ids).sum().backward()
    ids[:2] = ids[2:4].clone()
    torch.testing.assert_close(model.encode_text(ids), model.encode_text(ids.clone()), rtol=0, atol=0)
    with pytest.raises(ValueError, match="token ids must be in"):
        ids[0, 1] = 10**6
        model.encode_text(ids)


REFUSED = {
    "text is strings": (
        lambda w: w.model.encode_text(["walking"]),
        TypeError,
        r"text must be a tensor of token ids \(C, L\), got list: pass tokenizer\(texts\)",
    ),
    "text is None": (lambda w: w.model.encode_text(None), TypeError, r"got NoneType: pass tokenizer\(texts\)"),
    "text is strings in forward": (lambda w: w.model(VIDEO, ["walking"]), TypeError, r"got list: pass tokenizer"),
    "text is strings for a tower without prompts": (
        lambda w: w.vpt.encode_text(["walking"]),
        TypeError,
        r"got list: pass tokenizer\(texts\)",
    ),
    "text is float": (
        lambda w: w.model.encode_text(IDS.float()),
        TypeError,
        "int64 or int32, got a tensor of torch.float32: pass tokenizer.texts",
    ),
    "text is bytes": (
        lambda w: w.model.encode_text(IDS.byte()),
        TypeError,
        "int64 or int32, got a tensor of torch.uint8",
    ),
    "text is an array": (
        lambda w: w.model.encode_text(IDS.numpy()),
        TypeError,
        r"got ndarray: pass tokenizer\(texts\)",
    ),
    "text without columns": (lambda w: w.model.encode_text(IDS[:, :0]), ValueError, r"text is empty: .*\(3, 0\)"),
    "text is a mask": (lambda w: w.model.encode_text(IDS > 0), TypeError, "got a tensor of torch.bool"),
    "text of one row": (
        lambda w: w.model.encode_text(IDS[0]),
        ValueError,
        r"shape \(C, L\), got \(24,\): pass tokenizer\(texts\)",
    ),
    "text of rank 3": (lambda w: w.model.encode_text(IDS[None]), ValueError, r"shape \(C, L\), got \(1, 3, 24\)"),
    "no text": (lambda w: w.model.encode_text(IDS[:0]), ValueError, "text is empty: .*pass at least one text"),
    "text on another device": (
        lambda w: w.model.encode_text(IDS.to("meta")),
        ValueError,
        r"text is on meta, the model on cpu: use text.to\('cpu'\)",
    ),
    "too many columns": (
        lambda w: w.model.encode_text(nn.functional.pad(IDS, (0, 1))),
        ValueError,
        r"25 columns, the tower has 24 positions: use tokenizer\(texts, context_length=24\)",
    ),
    "too many columns for a tower without prompts": (
        lambda w: w.vpt.encode_text(nn.functional.pad(IDS, (0, 1))),
        ValueError,
        "25 columns, the tower has 24 positions",
    ),
    "too long with the prompts in": (
        lambda w: w.model.encode_text(ids(architectures.START, *[5] * 20, architectures.END)),
        ValueError,
        r"22 tokens, but 21 are left .*use tokenizer\(texts, context_length=21\)",
    ),
    "too long for a tower without a mask": (
        lambda w: w.siglip.encode_text(zoo.text_ids("siglip", [22])),
        ValueError,
        r"takes 23 tokens, but 21 are left once the 3 prompts are in.*context_length=21",
    ),
    "too long for CoCa": (
        lambda w: w.coca.encode_text(zoo.text_ids("coca", [20])),
        ValueError,
        r"tokens, but \d+ are left once the 3 prompts are in",
    ),
    "too long for a Hugging Face tower": (
        lambda w: w.roberta.encode_text(zoo.text_ids("roberta", [29], columns=32)),
        ValueError,
        "takes 31 tokens, but 29 are left",
    ),
    "no end token": (
        lambda w: w.model.encode_text(ids(architectures.START, 5, 6)),
        ValueError,
        r"text 0 has no end token after its start token: pass tokenizer\(texts\)",
    ),
    "no end token under eos pooling": (
        lambda w: w.eos.encode_text(torch.tensor([[1, 5, 2], [1, 5, 3]])),
        ValueError,
        "text 1 has no end token",
    ),
    "id beyond the vocabulary": (
        lambda w: w.model.encode_text(ids(architectures.START, architectures.VOCABULARY, architectures.END)),
        ValueError,
        r"in 0\.\.99, got 98\.\.100: use the tokenizer of this model",
    ),
    "negative id": (
        lambda w: w.model.encode_text(ids(architectures.START, -1, architectures.END)),
        ValueError,
        r"in 0\.\.99, got -1\.\.99",
    ),
    "tokenizer of another model": (
        lambda w: scenario_features(w.model, open_clip.SimpleTokenizer(context_length=20), ["a"]),
        ValueError,
        r"token ids must be in 0\.\.99, .*use the tokenizer of this model",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
