"""Splits videos into training and test where the annotations do not."""

import random
from collections import Counter, defaultdict

from examples.paper.lists.rows import Row
from examples.paper.lists.splits import TRAIN


def split_by_share(rows: list[Row], share: float, seed: int) -> list[Row]:
    """Draws the videos to test on: about a share of each class, and all videos of a group on one side.

    A class whose videos are all of one group trains only.

    Args:
        rows: Videos whose splits are unknown.
        share: The share of the videos to test on, between 0 and 1.
        seed: Of the draw.

    Raises:
        ValueError: The share is not between 0 and 1, or no video can be tested on.
    """
    if not 0 < share < 1:
        raise ValueError(f"--test-share must be between 0 and 1, got {share}")
    groups: dict[str, Counter[str]] = defaultdict(Counter)  # how many videos of each class a group has
    for row in rows:
        groups[row.group][row.label] += 1
    total = Counter(row.label for row in rows)
    wanted = {label: max(1, round(share * count)) for label, count in total.items()}
    tested: Counter[str] = Counter()
    chosen = set()
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    for group in order:
        if all(
            tested[label] + count <= wanted[label] and tested[label] + count < total[label]
            for label, count in groups[group].items()
        ):
            chosen.add(group)
            tested += groups[group]
    # If every group of a class is larger than the wanted share, the smallest group is the test set.
    for label in sorted(total):
        fitting = [
            group
            for group in order
            if group not in chosen
            and label in groups[group]
            and all(tested[other] + count < total[other] for other, count in groups[group].items())
        ]
        if not tested[label] and fitting:
            smallest = min(fitting, key=lambda group: groups[group].total())
            chosen.add(smallest)
            tested += groups[smallest]
    if not chosen:
        raise ValueError("the videos of each class are all of one group: none can be kept from training for a test")
    return [row._replace(split="test" if row.group in chosen else TRAIN) for row in rows]
