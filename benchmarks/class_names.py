"""Class names of real data sets as token ids, and how many of their tokens count.

Shapes: C classes, L columns of token ids.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import open_clip
from torch import Tensor

LABELS = Path(__file__).parent / "labels"
LABEL_SETS = ("hmdb51", "ucf101", "ssv2", "kinetics400")
CONTEXT_LENGTH = 77


class TokenRatios(NamedTuple):
    """How many times fewer tokens than 77 for each class."""

    own: float  # each name's own tokens and its end token
    cropped: float  # as many for each class as the longest name has, with its end token


@lru_cache
def tokenizer() -> open_clip.SimpleTokenizer:
    """CLIP's own tokenizer, which open_clip ships."""
    return open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)


def read_names(labels: str) -> list[str]:
    """The class names of a data set.

    Raises:
        ValueError: If there is no such label set.
    """
    if labels not in LABEL_SETS:
        raise ValueError(f"no label set {labels!r}: choose one of {', '.join(LABEL_SETS)}")
    return (LABELS / f"{labels}.txt").read_text().splitlines()


def token_ids(names: list[str]) -> Tensor:
    """Token ids (C, 77), as `open_clip.get_tokenizer` gives them for OpenAI's architectures."""
    return tokenizer()(names)


def own_tokens(names: list[str]) -> list[int]:
    """For each name, the number of its own tokens plus the end token: the tokens that every computation has to run."""
    return [len(tokenizer().encode(name)) + 1 for name in names]


def places_of_beginnings(names: list[str]) -> list[int]:
    """The place in its name, from 1, of the last token of each distinct beginning of a name, end tokens with them."""
    rows = [[*tokenizer().encode(name), tokenizer().eot_token_id] for name in names]
    return [len(beginning) for beginning in {tuple(row[: i + 1]) for row in rows for i in range(len(row))}]


def token_ratios(own: list[int]) -> TokenRatios:
    """77 tokens for each class, over what `own_tokens` counted, and over what cropping to the longest leaves.

    >>> token_ratios([2, 5])
    TokenRatios(own=22.0, cropped=15.4)
    """
    return TokenRatios(CONTEXT_LENGTH * len(own) / sum(own), CONTEXT_LENGTH / max(own))
