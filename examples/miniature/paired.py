"""Are two methods different? Paired bootstraps over classes, with Holm's correction for several comparisons.

The runs of a method are not independent samples: they share clips, and the clips of a class are near-copies. So all
results of a class are averaged first, and the bootstrap draws classes. Both methods get the same draws.

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
class Pair:
    """Two methods to compare.

    Attributes:
        metric: What to compare.
        first: The scores of one method.
        second: Those of the other, which are subtracted.
        margin: How much worse the first one may be. The question is whether it is not worse than that.
    """

    metric: Metric
    first: Scores
    second: Scores
    margin: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """One method minus another.

    Attributes:
        difference: With each class once.
        interval: 95%, as if it were the only comparison.
        corrected: At the level that Holm's procedure gives it among all planned comparisons.
        found: Whether the corrected interval, and those of all comparisons that come before it, exclude minus the
            margin, which is 0 unless a pair has one.
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


def compare(pairs: Sequence[Pair], planned: int | None = None, level: float = 0.05) -> list[Comparison]:
    """Compares pairs, the first of each minus the second.

    Holm's procedure: the comparison with the smallest p is tested at level / m, the next one at level / (m - 1), and so
    on. After the first one that is not found, none is.

    Args:
        pairs: The comparisons.
        planned: m, the number of planned comparisons; None for all given ones. Those that could not be made count too.
        level: The chance of any false finding.

    Returns:
        One comparison for each pair.
    """
    if not pairs:
        return []
    m = len(pairs) if planned is None else planned
    draws = draw(len(next(iter(pairs[0].first.values()))))
    differences = [pair.metric(pair.first, draws) - pair.metric(pair.second, draws) for pair in pairs]
    differences = [each[np.isfinite(each)] for each in differences]
    beyond = [each + pair.margin for each, pair in zip(differences, pairs, strict=True)]
    p = [2 * min((each <= 0).mean(), (each >= 0).mean()) for each in beyond]
    factor = NormalDist().inv_cdf(1 - level / m / 2) + NormalDist().inv_cdf(POWER)
    results: dict[int, Comparison] = {}
    own, going_on = level / m, True
    for rank, n in enumerate(sorted(range(len(pairs)), key=lambda n: p[n])):
        # After the first that is not found the level stays, so that no interval says otherwise.
        own = level / (m - rank) if going_on else own
        low, high = corrected = interval_of(differences[n], own)
        going_on = going_on and not low <= -pairs[n].margin <= high
        results[n] = Comparison(
            difference=value(pairs[n].metric, pairs[n].first) - value(pairs[n].metric, pairs[n].second),
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
