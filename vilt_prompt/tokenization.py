"""Tokenizers: the ids of texts, and of a text without its start and end.

Shapes: C texts, L columns.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vilt_prompt.towers.token_ids import filled


def tokenized(tokenizer: object, texts: list[str]) -> Tensor:
    """Tokenize texts, and check the result.

    Args:
        tokenizer: The model's tokenizer.
        texts: C texts.

    Returns:
        Token ids (C, L).

    Raises:
        TypeError: If the tokenizer cannot be called, or does not return a tensor of ids (C, L).
    """
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
    """Tokenize a text without the ids that a tokenizer puts around every text, such as start and end tokens.

    The empty text consists of these ids alone, so they are found by comparison with it.
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
