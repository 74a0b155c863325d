"""Are two methods different? Paired bootstraps over classes, with Holm's correction for several comparisons.

Runs of one method are no independent samples: they share clips, and the clips of a class are near-copies. So everything
within a class is averaged first, and classes are what is drawn. Both methods get the same draws.

Shapes: C classes, B draws.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scores = Mapping[str, Array]  # the accuracy of each class (C,), NaN where it was not tested, by the name of the test
Metric = Callable[[Scores, Array], Array]  # of draws (B, C), how often each class is in each, (B,)

DRAWS = 10_000
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """One method minus another.

    Attributes:
        difference: Of all classes as they are.
        interval: 95%, as if it were the only comparison.
        corrected: At the level that Holm's procedure gives it among all planned comparisons.
        found: Whether the corrected interval, and those of all comparisons that come before it, leave out 0.
        detectable: The smallest difference that would be found in 8 of 10 such experiments, at the level of the first
            comparison in Holm's procedure.
    """

    difference: float
    interval: tuple[float, float]
    corrected: tuple[float, float]
    found: bool
    detectable: float


def class_means(hits: Sequence[bool], classes: Sequence[int], count: int) -> Array:
    """The mean of what belongs to each class, (C,); NaN where nothing does."""
    right = np.bincount(classes, weights=np.asarray(hits, dtype=float), minlength=count)
    seen = np.bincount(classes, minlength=count)
    return np.divide(right, seen, out=np.full(count, np.nan), where=seen > 0)


@functools.cache
def draw(classes: int, draws: int = DRAWS, seed: int = 0) -> Array:
    """How often each class is in each bootstrap sample of as many classes, (B, C)."""
    return np.random.default_rng(seed).multinomial(classes, np.full(classes, 1 / classes), draws).astype(float)


def mean_of(test: str) -> Metric:
    """The macro mean of one test: classes count equally."""

    def metric(scores: Scores, draws: Array) -> Array:
        tested = np.isfinite(scores[test]).astype(float)
        with np.errstate(invalid="ignore"):  # a draw of nothing but classes that were not tested
            return (draws @ np.nan_to_num(scores[test])) / (draws @ tested)

    return metric


def harmonic_mean_of(first: str, second: str) -> Metric:
    """The harmonic mean of two tests' macro means."""

    def metric(scores: Scores, draws: Array) -> Array:
        a, b = mean_of(first)(scores, draws), mean_of(second)(scores, draws)
        return 2 * a * b / np.maximum(a + b, 1e-12)

    return metric


def value(metric: Metric, scores: Scores) -> float:
    """A metric of all classes as they are."""
    classes = len(next(iter(scores.values())))
    return float(metric(scores, np.ones((1, classes)))[0])


def compare(pairs: Sequence[tuple[Metric, Scores, Scores]], level: float = 0.05) -> list[Comparison]:
    """Compares all planned pairs, the first of each minus the second.

    Holm's procedure: the comparison with the smallest p is tested at level / m, the next one at level / (m - 1), ...,
    and after the first one that is not found none is.
    """
    if not pairs:
        return []
    draws = draw(len(next(iter(pairs[0][1].values()))))
    differences = [metric(first, draws) - metric(second, draws) for metric, first, second in pairs]
    differences = [each[np.isfinite(each)] for each in differences]
    p = [2 * min((d <= 0).mean(), (d >= 0).mean()) for d in differences]
    factor = NormalDist().inv_cdf(1 - level / len(pairs) / 2) + NormalDist().inv_cdf(POWER)
    results: dict[int, Comparison] = {}
    own, going_on = level / len(pairs), True
    for rank, n in enumerate(sorted(range(len(pairs)), key=lambda n: p[n])):
        # After the first that is not found the level stays, so that no interval says otherwise.
        own = level / (len(pairs) - rank) if going_on else own
        corrected = interval_of(differences[n], own)
        going_on = going_on and not corrected[0] <= 0 <= corrected[1]
        metric, first, second = pairs[n]
        results[n] = Comparison(
            difference=value(metric, first) - value(metric, second),
            interval=interval_of(differences[n], level),
            corrected=corrected,
            found=going_on,
            detectable=float(factor * differences[n].std()),
        )
    return [results[n] for n in range(len(pairs))]


def interval_of(draws: Array, level: float) -> tuple[float, float]:
    """The middle 1 - level of the draws."""
    low, high = np.quantile(draws, [level / 2, 1 - level / 2])
    return float(low), float(high)
