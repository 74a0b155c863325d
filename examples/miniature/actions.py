"""The actions of the cut-outs, and their division into base and novel ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # It imports torch, which takes seconds, and only a type is needed.
    from examples.data.clips import Clip

PERSONS = ("person", "woman", "man")  # each is the test of one fold; in the order in which the folds are run

# Actions that look or read alike: a model that is trained on one knows the other.
SIBLINGS = (
    ("walking", "walking with a white cane"),
    ("riding a manual wheelchair", "riding a motorized wheelchair"),
    ("biking", "mountain biking"),
    ("swimming", "playing water polo"),
    ("frowning", "pouting", "facepalming"),
)


def complete_actions(clips: Sequence[Clip]) -> list[str]:
    """The actions that every kind of person does, sorted."""
    persons: dict[str, set[str]] = {}
    for clip in clips:
        persons.setdefault(clip.label, set()).add(clip.person)
    return sorted(action for action, seen in persons.items() if seen == set(PERSONS))


def base_and_novel(actions: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Draws half of the actions, rounded up, as base; siblings are on one side.

    Args:
        actions: All of them.
        seed: Another seed, another draw.

    Returns:
        The base actions and the novel ones, each sorted.

    Example:
        >>> base_and_novel(["biking", "bowing", "golfing", "mountain biking"], seed=0)
        (['biking', 'mountain biking'], ['bowing', 'golfing'])
    """
    dice = random.Random(f"{seed}/base")
    families = [[action for action in family if action in actions] for family in SIBLINGS]
    families = [family for family in families if len(family) > 1]
    base: list[str] = []
    half = (len(actions) + 1) // 2
    for family in families:
        # Single actions, drawn afterwards, fill base up exactly.
        if dice.random() < 0.5 and len(base) + len(family) <= half:
            base += family
    single = sorted(set(actions) - {action for family in families for action in family})
    base += dice.sample(single, min(half - len(base), len(single)))
    return sorted(base), sorted(set(actions) - set(base))
