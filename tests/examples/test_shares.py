"""Drawing the test videos: their share, their groups, their seed."""

from __future__ import annotations

from collections import Counter

import pytest

from examples.paper.lists.rows import Row
from examples.paper.lists.shares import split_by_share


def rows(groups: dict[str, list[str]]) -> list[Row]:
    """A video for each label of each group."""
    return [
        Row((f"{group}-{number}.mp4",), label, group, "", "")
        for group, labels in groups.items()
        for number, label in enumerate(labels)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_groups_stay_together_and_the_share_is_about_what_was_asked(seed):
    videos = rows({f"{label}{n}": [label] * 4 for label in ("run", "jump") for n in range(10)})
    split = split_by_share(videos, 0.2, seed)
    sides: dict[str, set[str]] = {}
    for row in split:
        sides.setdefault(row.group, set()).add(row.split)
    assert all(len(own) == 1 for own in sides.values())
    assert Counter((row.label, row.split) for row in split) == {
        (label, part): count for label in ("run", "jump") for part, count in (("test", 8), ("train", 32))
    }
    assert split == split_by_share(videos, 0.2, seed)
    assert [row.names for row in split] == [row.names for row in videos]


def test_the_seed_draws():
    videos = rows({str(n): ["run"] for n in range(20)})
    drawn = {tuple(row.split for row in split_by_share(videos, 0.25, seed)) for seed in range(5)}
    assert len(drawn) == 5


def test_every_class_that_can_be_tested_is():
    """Groups larger than the share, a group of all classes, and a class of one group, which only trains."""
    videos = rows({"a": ["run"] * 5, "b": ["run"] * 3, "c": ["jump"] * 9, "d": ["run", "walk"], "e": ["walk"]})
    for seed in range(8):
        split = split_by_share(videos, 0.1, seed)
        tested = {row.label for row in split if row.split == "test"}
        trained = {row.label for row in split if row.split == "train"}
        assert tested == {"run", "walk"}
        assert trained == {"run", "walk", "jump"}


def test_what_cannot_be_drawn():
    videos = rows({"a": ["run"] * 3})
    for share in (0, 1, -0.5):
        with pytest.raises(ValueError, match="--test-share must be between 0 and 1, got"):
            split_by_share(videos, share, 0)
    with pytest.raises(ValueError, match="the videos of each class are all of one group"):
        split_by_share(videos, 0.5, 0)


def test_a_class_of_one_video_trains_only():
    for seed in range(4):
        split = split_by_share(rows({"a": ["run"], "b": ["jump"], "c": ["jump"]}), 0.5, seed)
        assert [row.label for row in split if row.split == "test"] == ["jump"]
