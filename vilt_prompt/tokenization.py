"""Tokenizers: the ids of texts, and of a text without its start and end.

Shapes: C texts, L columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vilt_prompt.towers.token_ids import filled


def tokenized(tokenizer: Any, texts: list[str]) -> Tensor:
    """What a tokenizer makes of texts: (C, L)."""
    if not callable(tokenizer):
        raise TypeError(
            f"the tokenizer must be the model's, open_clip.get_tokenizer(...), got {type(tokenizer).__name__}"
        )
    text = tokenizer(texts)
    if not isinstance(text, Tensor) or text.shape[:-1] != (len(texts),):
        got = getattr(text, "shape", type(text).__name__)
        raise TypeError(f"the tokenizer must return a tensor of ids (C, L), got {got}")
    return text


def content(tokenizer: Callable[[list[str]], Tensor], text: str) -> list[int]:
    """The ids of a text without those that the empty text has at its ends too, such as start and end."""
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
