"""The split that a row or a file belongs to, under any of its usual names."""

from collections.abc import Iterable

TRAIN = "train"
TEST = ("test", "val", "validate", "validation")  # the first that is there is tested on
_OTHER_NAMES = {"training": TRAIN, "testing": "test", "valid": "val", "dev": "val", "eval": "test"}


def known_split(text: str) -> str | None:
    """Returns the split that a text names, whatever its capitals and blanks; None if it names none.

    Example:
        >>> known_split(" Train"), known_split("VALIDATION"), known_split("tset")
        ('train', 'validation', None)
    """
    plain = text.strip().lower()
    plain = _OTHER_NAMES.get(plain, plain)
    return plain if plain in (TRAIN, *TEST) else None


def tested_split(splits: Iterable[str]) -> str | None:
    """Returns the split to test on, never two of them mixed; None if there is none."""
    there = set(splits)
    return next((name for name in TEST if name in there), None)
