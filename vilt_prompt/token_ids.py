"""Checks of token ids against a text tower, and what may be cut off to make room for prompts.

Values are looked at in one transfer from the device. Where they cannot be read (meta tensors, while compiling or
exporting) nothing is known of them: checks of values are skipped and nothing is cropped but what cannot fit.

Shapes: C texts, L columns, n prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vilt_prompt.checks import check_placed, is_readable


def check_ids(text: Any, positions: int, embedding: Tensor) -> None:
    """Checks that `text` is token ids (C, L) of which the tower has that many positions, beside its embedding.

    Raises:
        TypeError: If `text` is no tensor of integers.
        ValueError: If it is not (C, L), is empty, has more columns than the tower has positions, or is elsewhere.
    """
    if not isinstance(text, Tensor):
        raise TypeError(
            f"text must be a tensor of token ids (C, L), got {type(text).__name__}: "
            "pass tokenizer(texts), with open_clip.get_tokenizer(...)"
        )
    if text.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"token ids must be int64 or int32, got a tensor of {text.dtype}: pass tokenizer(texts)")
    if text.ndim != 2:
        raise ValueError(f"text must be token ids of shape (C, L), got {tuple(text.shape)}: pass tokenizer(texts)")
    if text.numel() == 0:
        raise ValueError(f"text is empty: its shape is {tuple(text.shape)}; pass at least one text")
    if text.shape[1] > positions:
        raise ValueError(
            f"text has {text.shape[1]} columns, the tower has {positions} positions: "
            f"use tokenizer(texts, context_length={positions})"
        )
    check_placed("text", text, embedding)


class Facts:
    """What is known of readable token ids (C, L) whose values were checked."""

    def __init__(self, text: Tensor, vocabulary: int, end: Tensor | None) -> None:
        """Reads them all at once.

        Args:
            text: (C, L).
            vocabulary: How many ids the tower has.
            end: (C,), the column of each text's end token, 0 where none follows the start token; None: the tower
                does not look for one.

        Raises:
            ValueError: If ids are outside the vocabulary, or a text has no end token.
        """
        facts = [text.amin(), text.amax(), (text[:, 0] == text[0, 0]).all(), filled(text).amax()]
        facts += [] if end is None else [end.amin(), end.amax()]
        least, largest, shared, self.filled, *ends = torch.stack([fact.long() for fact in facts]).tolist()
        self.shared_start = bool(shared)  # whether all texts begin with the same token
        self.last_end: int | None = ends[1] if ends else None
        if least < 0 or largest >= vocabulary:
            raise ValueError(
                f"token ids must be in 0..{vocabulary - 1}, got {least}..{largest}: is it the tokenizer of this model?"
            )
        if end is not None and ends[0] == 0:
            raise ValueError(
                f"text {int(end.argmin())} has no end token after its start token: pass tokenizer(texts), which "
                "adds it and keeps it when it cuts a text"
            )


def filled(text: Tensor) -> Tensor:
    """(C, L) -> (C,), how many columns are more than padding: of a row's trailing run of one id, the first is kept."""
    differs = text != text[:, -1:]
    columns = torch.arange(1, text.shape[1] + 1, device=text.device)
    return (differs * columns).amax(dim=1) + 1


def check_room(taken: int, positions: int, n: int) -> None:
    """Checks that texts of `taken` tokens fit once n prompts are in.

    Raises:
        ValueError: If they do not; the message says how many tokens are left.
    """
    left = positions - n
    if taken > left:
        raise ValueError(
            f"a text takes {taken} tokens, but {left} are left once the {n} prompts are in, start and end token "
            f"included: use tokenizer(texts, context_length={left})"
        )


def make_room(text: Tensor, facts: Facts | None, positions: int, n: int) -> Tensor:
    """Drops the columns (C, L) for which n prompts leave no position, where they are only padding.

    Raises:
        ValueError: If they are more than padding; see `filled`.
    """
    left = positions - n
    if text.shape[1] > left and facts is not None:
        check_room(facts.filled, positions, n)
    return text[:, :left]


def check_start(text: Tensor, pad_id: int) -> None:
    """Checks that no text (C, L) begins with padding, where the tower would mask, or count, the prompts behind it.

    Raises:
        ValueError: If one does.
    """
    starts = text[:, 0] != pad_id
    if is_readable(text) and not starts.all():
        raise ValueError(
            f"text {int(starts.int().argmin())} begins with padding (id {pad_id}) in place of a start token: pass "
            "tokenizer(texts), of a tokenizer that pads at the end"
        )


def check_values(text: Tensor, vocabulary: int, end: Tensor | None = None) -> Facts | None:
    """The facts of token ids whose values can be read, None otherwise.

    Raises:
        ValueError: If the values are not those of a text; see `Facts`.
    """
    return Facts(text, vocabulary, end) if is_readable(text) else None


def tokenized(tokenizer: Any, texts: list[str]) -> Tensor:
    """What a tokenizer makes of texts: (C, L).

    Raises:
        TypeError: If it cannot be called, or returns something else.
    """
    if not callable(tokenizer):
        raise TypeError(
            f"the tokenizer must be the model's, open_clip.get_tokenizer(...), got {type(tokenizer).__name__}"
        )
    text = tokenizer(texts)
    if not isinstance(text, Tensor):
        raise TypeError(f"the tokenizer must return a tensor of ids (C, L), got {type(text).__name__}")
    return text


def content(tokenizer: Callable[[list[str]], Tensor], text: str) -> list[int]:
    """The ids of a text without what the tokenizer puts around every text, such as start and end tokens and padding.

    That is what the text's ids have in common, at both ends, with those of the empty text.
    """
    ids, empty = tokenized(tokenizer, [text]), tokenized(tokenizer, [""])
    row = ids[0, : int(filled(ids)[0])].tolist()
    around = empty[0, : int(filled(empty)[0])].tolist()
    start = 0
    while start < min(len(row), len(around)) and row[start] == around[start]:
        start += 1
    end = 0
    while end < min(len(row), len(around)) - start and row[-1 - end] == around[-1 - end]:
        end += 1
    return row[start : len(row) - end]
