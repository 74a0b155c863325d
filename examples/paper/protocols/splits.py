"""Base-to-novel splits: which classes the training sees, and the score of both halves.

Shapes: C classes.
"""

from collections.abc import Sequence

from torch import Tensor

from examples.paper.protocols.shuffling import shuffled


def base_novel_split(counts: Sequence[int] | Tensor, seed: int | None = None) -> tuple[list[int], list[int]]:
    """Splits C classes into base, which training sees, and novel, which it does not.

    Base is the more frequent half, rounded up, such as 26 of 51; among equals the first classes.

    Args:
        counts: Training videos of each class, (C,).
        seed: Draws the halves at random instead.

    Returns:
        The base classes and the novel ones, each ascending.

    Raises:
        ValueError: If there are fewer than two classes, or a count is negative.

    Example:
        >>> base_novel_split([5, 9, 5, 7, 5])
        ([0, 1, 3], [2, 4])
    """
    numbers = counts.tolist() if isinstance(counts, Tensor) else list(counts)
    if len(numbers) < 2:
        raise ValueError(f"a split needs at least 2 classes, got {len(numbers)}")
    if min(numbers) < 0:
        raise ValueError(f"counts must not be negative, got {min(numbers)} for class {numbers.index(min(numbers))}")
    classes = list(range(len(numbers)))
    order = sorted(classes, key=lambda label: -numbers[label]) if seed is None else shuffled(classes, f"{seed}/base")
    half = (len(order) + 1) // 2
    return sorted(order[:half]), sorted(order[half:])


def harmonic_mean(base: float, novel: float) -> float:
    """`2 * base * novel / (base + novel)`, and 0 where both are 0.

    Args:
        base: Accuracy on the classes of the training.
        novel: Accuracy on the others, in the same unit.

    Raises:
        ValueError: If one is negative or NaN.
    """
    if not (base >= 0 and novel >= 0):
        raise ValueError(f"base={base} and novel={novel} must not be negative or NaN")
    return 2 * base * novel / (base + novel) if base + novel else 0.0
