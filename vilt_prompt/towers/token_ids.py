"""Checks of token ids against a text tower, and the columns that may be dropped to make room for prompts.

If values cannot be read, their checks are skipped, and only columns for which there is no position are dropped.

Shapes: C texts, L columns, n prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from vilt_prompt.checks import check_placed, is_readable

Made = TypeVar("Made")

# For each living tensor of ids: its version when it was read, and the results that were made from it.
_MADE: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def once_for(text: Tensor, key: Hashable, make: Callable[[], Made]) -> Made:
    """Call `make` once for token ids, for as long as their tensor lives and is not changed in place.

    In a training loop the ids of the class names are the same tensor in every step. Then no step reads their values,
    for which it would have to wait for a GPU.

    Args:
        text: (C, L) token ids.
        key: Everything else that the result depends on.
        make: Makes a result, or checks the ids. The result must not hold `text` or a view of it, or the tensor would
            live forever.

    Returns:
        The result of `make`.
    """
    # Inference tensors do not count versions, and a compiler sees no values.
    if not is_readable(text) or text.is_inference():
        return make()
    version, made = _MADE.get(text, (None, {}))
    # torch increments the version in each operation that changes the tensor. It does not see changes through `.data`,
    # or through a NumPy array that shares the memory: no check of the values without a wait could.
    if version != text._version:
        made = {}
        _MADE[text] = (text._version, made)
    if key not in made:
        with torch.inference_mode(False):  # training may use the indices that inference made
            made[key] = make()
    kept: Made = made[key]
    return kept


def check_ids(text: object, positions: int, embedding: Tensor) -> None:
    """Check the type, shape and place of token ids (C, L).

    Args:
        text: The token ids.
        positions: The number of positions of the tower.
        embedding: The weight of the tower's embedding, on whose device they must be.

    Raises:
        TypeError: If `text` is not an integer tensor.
        ValueError: If it has another shape, more columns than the tower has positions, or another device.
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


class TokenStatistics(NamedTuple):
    """Statistics of token ids (C, L) whose values could be read.

    Attributes:
        filled: The number of columns of the longest text, without padding.
        shared_start: Whether all texts begin with the same token.
        last_end: The last column of an end token; None: the tower looks for no end token.
    """

    filled: int
    shared_start: bool
    last_end: int | None


def check_values(text: Tensor, vocabulary: int, end: Tensor | None = None) -> TokenStatistics | None:
    """Check the values of token ids (C, L), and collect statistics in the same transfer from the device.

    Args:
        text: The token ids.
        vocabulary: The number of ids that the tower knows.
        end: (C,), the column of each text's end token, 0 if it has none; None: the tower looks for none.

    Returns:
        The statistics, or None if values cannot be read.

    Raises:
        ValueError: If an id is outside the vocabulary, or a text has no end token.
    """
    if not is_readable(text):
        return None
    # All values go to the CPU in one tensor: each read from a GPU waits for it.
    values = [text.amin(), text.amax(), filled(text).amax(), (text[:, 0] == text[0, 0]).all()]
    values += [] if end is None else [end.amin(), end.amax()]
    least, largest, columns, shared, *ends = torch.stack([value.long() for value in values]).tolist()
    if least < 0 or largest >= vocabulary:
        raise ValueError(
            f"token ids must be in 0..{vocabulary - 1}, got {least}..{largest}: use the tokenizer of this model"
        )
    if end is not None and ends[0] == 0:
        raise ValueError(
            f"text {int(end.argmin())} has no end token after its start token: pass tokenizer(texts), which keeps it "
            "when it cuts a text"
        )
    return TokenStatistics(columns, bool(shared), ends[1] if ends else None)


def filled(text: Tensor) -> Tensor:
    """The number of columns of each text (C, L) without padding: (C,).

    Padding is a trailing run of one id, without the first of the run, which may be an end token with the same id.
    """
    differs = text != text[:, -1:]  # [C L]
    columns = torch.arange(1, text.shape[1] + 1, device=text.device)
    return (differs * columns).amax(dim=1) + 1


def check_room(taken: int, positions: int, n: int) -> None:
    """Check that texts of `taken` tokens fit into the tower's positions together with n prompts.

    Raises:
        ValueError: If they do not fit.
    """
    left = positions - n
    if taken > left:
        raise ValueError(
            f"a text takes {taken} tokens, but {left} are left once the {n} prompts are in, start and end included: "
            f"use tokenizer(texts, context_length={left})"
        )


def make_room(text: Tensor, statistics: TokenStatistics | None, positions: int, n: int) -> Tensor:
    """Drop the columns of token ids for which n prompts leave no position.

    Args:
        text: (C, L) token ids.
        statistics: Their statistics, or None if values cannot be read.
        positions: The number of positions of the tower.
        n: The number of prompts.

    Returns:
        (C, at most positions - n).

    Raises:
        ValueError: If the dropped columns are known to hold more than padding.
    """
    left = positions - n
    if text.shape[1] > left and statistics is not None:
        check_room(statistics.filled, positions, n)
    return text[:, :left]


def check_start(text: Tensor, pad_id: int) -> None:
    """Check that no text (C, L) begins with padding, because prompts behind it would be masked or counted.

    Raises:
        ValueError: If one does.
    """

    def check() -> None:
        starts = text[:, 0] != pad_id
        if not starts.all():
            raise ValueError(
                f"text {int(starts.int().argmin())} begins with padding (id {pad_id}) instead of a start token: use a "
                "tokenizer that pads at the end"
            )

    if is_readable(text):
        once_for(text, ("start", pad_id), check)
