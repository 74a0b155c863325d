"""Checks of token ids against a text tower, and what may be cut off to make room for prompts.

Where values cannot be read, their checks are skipped, and nothing is cropped but what cannot fit.

Shapes: C texts, L columns, n prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from vilt_prompt.checks import check_placed, is_readable

Made = TypeVar("Made")

# For each living tensor of ids: its version when it was read, and what was made of it.
_MADE: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def keep_for(text: Tensor, key: Hashable, make: Callable[[], Made]) -> Made:
    """Makes something of token ids once, for as long as their tensor lives and is not changed in place.

    In a training loop the ids of the class names are the same tensor in every step: then no step reads their values,
    for which it would have to wait for a GPU.

    Args:
        text: (C, L) token ids.
        key: Everything else that the result depends on.
        make: Makes the result, which must not hold `text` or a view of it: the tensor would live for ever.
    """
    # Inference tensors count no versions, and a compiler sees no values.
    if not is_readable(text) or text.is_inference():
        return make()
    version, made = _MADE.get(text, (None, {}))
    if version != text._version:
        made = {}
        _MADE[text] = (text._version, made)
    if key not in made:
        with torch.inference_mode(False):  # training may use the indices that inference made
            made[key] = make()
    kept: Made = made[key]
    return kept


def check_ids(text: Any, positions: int, embedding: Tensor) -> None:
    """Refuses what are no token ids (C, L) beside the tower's embedding, or have more columns than it has positions."""
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


class Facts(NamedTuple):
    """What is known of token ids (C, L) whose values could be read."""

    filled: int  # the most columns of a text that are no padding
    shared_start: bool  # whether all texts begin with the same token
    last_end: int | None  # the last column of an end token, if the tower looks for one


def check_values(text: Tensor, vocabulary: int, end: Tensor | None = None) -> Facts | None:
    """Refuses ids outside the vocabulary, and texts whose column of the end token (C,) is 0 (ValueError).

    Returns:
        What is known then, read in one transfer from the device; None where values cannot be read.
    """
    if not is_readable(text):
        return None
    facts = [text.amin(), text.amax(), filled(text).amax(), (text[:, 0] == text[0, 0]).all()]
    facts += [] if end is None else [end.amin(), end.amax()]
    least, largest, columns, shared, *ends = torch.stack([fact.long() for fact in facts]).tolist()
    if least < 0 or largest >= vocabulary:
        raise ValueError(
            f"token ids must be in 0..{vocabulary - 1}, got {least}..{largest}: is it the tokenizer of this model?"
        )
    if end is not None and ends[0] == 0:
        raise ValueError(
            f"text {int(end.argmin())} has no end token after its start token: pass tokenizer(texts), which keeps it "
            "when it cuts a text"
        )
    return Facts(columns, bool(shared), ends[1] if ends else None)


def filled(text: Tensor) -> Tensor:
    """(C, L) -> (C,), the columns that are no padding: all of a row's trailing run of one id but the first is."""
    differs = text != text[:, -1:]
    columns = torch.arange(1, text.shape[1] + 1, device=text.device)
    return (differs * columns).amax(dim=1) + 1


def check_room(taken: int, positions: int, n: int) -> None:
    """Refuses texts of `taken` tokens that do not fit once n prompts are in (ValueError)."""
    left = positions - n
    if taken > left:
        raise ValueError(
            f"a text takes {taken} tokens, but {left} are left once the {n} prompts are in, start and end included: "
            f"use tokenizer(texts, context_length={left})"
        )


def make_room(text: Tensor, facts: Facts | None, positions: int, n: int) -> Tensor:
    """Drops the columns (C, L) for which n prompts leave no position; more than padding there is a ValueError."""
    left = positions - n
    if text.shape[1] > left and facts is not None:
        check_room(facts.filled, positions, n)
    return text[:, :left]


def check_start(text: Tensor, pad_id: int) -> None:
    """Refuses texts (C, L) that begin with padding, behind which prompts would be masked or counted (ValueError)."""
    starts = text[:, 0] != pad_id
    if is_readable(text) and not starts.all():
        raise ValueError(
            f"text {int(starts.int().argmin())} begins with padding (id {pad_id}) in place of a start token: use a "
            "tokenizer that pads at the end"
        )
