"""Warnings about a list of labelled videos, and the merging of labels that are written in two ways."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple, TypeVar

from examples.paper.lists.caption_rows import CaptionRow
from examples.paper.lists.remarks import remark
from examples.paper.lists.rows import Row
from examples.paper.lists.splits import TEST, TRAIN, known_split

AnyRow = TypeVar("AnyRow", Row, CaptionRow)


def keep_known_splits(rows: list[AnyRow], source: object, advice: str = "") -> tuple[list[AnyRow], list[str]]:
    """Returns the rows of known splits, with the plain name of their split, and a remark on the others.

    Args:
        rows: Videos whose `split` is a text that may name a split.
        source: What messages call the annotations.
        advice: What else may help where no row is of a known split.

    Raises:
        ValueError: No row is of a known split.
    """
    kept = [row._replace(split=split) for row in rows if (split := known_split(row.split)) is not None]
    others = [row for row in rows if known_split(row.split) is None]
    if rows and not kept:
        first = others[0]
        said = f"has the split {first.split!r}" if first.split else "has no split"
        raise ValueError(
            f"{source} names no videos of a known split, {TRAIN} or {', '.join(TEST)}: {first.names[0]} "
            f"({first.where}) {said}; write it in the column `split` or in the name of the file{advice}"
        )
    if not others:
        return kept, []
    cases = (f"{row.names[0]} ({row.split!r}, {row.where})" for row in others)
    return kept, [remark(len(others), "rows of an unknown split are left out", cases)]


def unused_splits(rows: list[AnyRow], tested: str | None) -> list[str]:
    """Returns a remark for each split that is neither trained nor tested on, such as "val" beside "test"."""
    counts = Counter(row.split for row in rows if row.split not in (TRAIN, tested))
    return [
        remark(count, f"rows of the split {split!r} are not used, as {tested!r} is tested on", ())
        for split, count in counts.items()
    ]


def merge_labels(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Makes labels that differ in capitals and blanks only one, the most frequent of them; remarks on it."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        spellings[_plain(row.label)][row.label] += 1
    merged = {plain: max(counts, key=lambda label: counts[label]) for plain, counts in spellings.items()}
    twice = [counts for counts in spellings.values() if len(counts) > 1]
    remarks = []
    if twice:
        cases = (" and ".join(map(repr, counts)) for counts in twice)
        remarks = [remark(len(twice), "labels differ in capitals or blanks only and are read as one", cases)]
    return [row._replace(label=merged[_plain(row.label)]) for row in rows], remarks


def _plain(label: str) -> str:
    return " ".join(label.lower().split())


class Use(NamedTuple):
    """A video that is used: its file, its name in the annotations, its class, and whether it is for training."""

    video: Hashable
    name: str
    label: str
    trains: bool


def suspicious_uses(uses: Iterable[Use]) -> list[str]:
    """Returns remarks on videos that both train and test, on videos of two classes, and on repeated rows.

    Args:
        uses: A use for each row that counts; rows of one video have an equal `video`.
    """
    of_video: dict[Hashable, list[Use]] = defaultdict(list)
    for use in uses:
        of_video[use.video].append(use)

    def cases(what: Callable[[Use], object], shown: Callable[[list[Use]], str]) -> list[str]:
        return [shown(own) for own in of_video.values() if len(own) > 1 and len(set(map(what, own))) > 1]

    remarks = []
    both = cases(lambda use: use.trains, lambda own: own[0].name)
    if both:
        remarks.append(remark(len(both), "videos are in training and test", both))
    labels = cases(
        lambda use: use.label,
        lambda own: f"{own[0].name} ({' and '.join(dict.fromkeys(repr(use.label) for use in own))})",
    )
    if labels:
        remarks.append(remark(len(labels), "videos have two labels", labels))
    again = [
        own[0].name for own in of_video.values() if max(Counter((use.label, use.trains) for use in own).values()) > 1
    ]
    if again:
        remarks.append(remark(len(again), "videos are listed more than once, and count each time", again))
    return remarks
