"""K-shot sampling: which videos of each class a few-shot training sees."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

from torch import Tensor

from examples.paper.protocols.shuffling import shuffled
from examples.video.counts import check_counts


def sample_shots(
    labels: Sequence[int] | Tensor,
    shots: int,
    seed: int = 0,
    *,
    groups: Sequence[Hashable] | None = None,
    nested: bool = False,
) -> list[int]:
    """Picks K training videos of every class.

    The draw depends on the seed, the class and the order of its videos alone: no other class, machine or version of a
    library changes it.

    Args:
        labels: The class of each video, (N,).
        shots: K.
        seed: Another seed, another draw.
        groups: What each video was cut from, N names; a group gives a second video only when all of its class have
            given one. None: every video is its own.
        nested: Whether the draw is part of that of every larger K under the same seed.

    Returns:
        K positions for each class, ascending.

    Raises:
        TypeError: If K is not an integer.
        ValueError: If K is below 1, a class has fewer than K videos, or there is not one group for each video.

    Example:
        >>> sample_shots([0, 0, 0, 1, 1], 2, nested=True)
        [0, 2, 3, 4]
    """
    classes = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    check_counts(shots=shots)
    if not classes:
        raise ValueError("labels is empty: there is no video to pick")
    if groups is not None and len(groups) != len(classes):
        raise ValueError(f"groups must name one group for each of {len(classes)} videos, got {len(groups)}")
    positions: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(classes):
        positions[label].append(position)
    chosen: list[int] = []
    for label, own in positions.items():
        if len(own) < shots:
            raise ValueError(f"class {label} has {len(own)} videos, fewer than shots={shots}: ask for fewer shots")
        stream = f"{seed}/{label}" if nested else f"{seed}/{label}/{shots}"
        by_group: dict[Hashable, list[int]] = defaultdict(list)
        for position in own:
            by_group[position if groups is None else groups[position]].append(position)
        # Groups and the videos of each in random order, one of every group before any second.
        orders = [shuffled(group, f"{stream}/{n}") for n, group in enumerate(by_group.values())]
        ranks = [(turn, n) for n in shuffled(list(range(len(orders))), stream) for turn in range(len(orders[n]))]
        chosen += [orders[n][turn] for turn, n in sorted(ranks, key=lambda rank: rank[0])[:shots]]
    return sorted(chosen)
