"""The statistics of the ablation against plain loops."""

from __future__ import annotations

import random
from statistics import NormalDist, mean, stdev

import numpy as np
import pytest

from examples.miniature.paired import Pair, class_means, compare, draw, harmonic_mean_of, interval_of, mean_of, value

NAN = float("nan")
BASE = {"base": np.array([0.5, NAN, 1.0, 0.25]), "novel": np.array([0.1, 0.3, NAN, 0.6])}


def normal_scores(shift: float, classes: int, seed: int, spread: float = 0.1) -> tuple[dict, dict]:
    """Two methods, the first better by `shift` on average, with a spread of the differences."""
    rng = np.random.default_rng(seed)
    second = rng.uniform(0.3, 0.7, classes)
    return {"all": second + rng.normal(shift, spread, classes)}, {"all": second}


def slow_mean(scores: list[float], sample: list[int]) -> float:
    return mean([scores[n] for n in sample if scores[n] == scores[n]])


def test_class_means():
    hits, classes = [True, False, True, True, False], [0, 0, 2, 2, 2]
    found = class_means(hits, classes, 4)
    assert found[[0, 2]].tolist() == pytest.approx([1 / 2, 2 / 3])
    assert np.isnan(found[[1, 3]]).all()


def test_draws_are_bootstrap_samples():
    draws = draw(30)
    assert draws.shape == (10_000, 30)
    assert (draws.sum(1) == 30).all()
    assert draws.mean() == pytest.approx(1)
    assert draws.var() == pytest.approx(29 / 30, rel=0.02)  # of a binomial with 30 draws, each 1 in 30
    assert np.array_equal(draws, draw(30))
    assert not np.array_equal(draws[:10], draw(30, seed=1)[:10])


def test_metrics_are_those_of_a_loop_over_drawn_classes():
    draws = draw(4, draws=200)
    base, both = mean_of("base")(BASE, draws), harmonic_mean_of("base", "novel")(BASE, draws)
    checked = 0
    for n, counts in enumerate(draws.astype(int)):
        sample = [label for label in range(4) for _ in range(counts[label])]
        if set(sample) <= {1} or set(sample) <= {2}:
            assert np.isnan(both[n])  # nothing but classes that one of the tests lacks
            continue
        a, b = slow_mean(BASE["base"].tolist(), sample), slow_mean(BASE["novel"].tolist(), sample)
        assert base[n] == pytest.approx(a)
        assert both[n] == pytest.approx(2 * a * b / (a + b))
        checked += 1
    assert checked > 150
    assert value(mean_of("base"), BASE) == pytest.approx((0.5 + 1 + 0.25) / 3)


def test_interval_is_that_of_a_slow_bootstrap():
    first, second = normal_scores(0.03, 30, seed=0)
    differences = (first["all"] - second["all"]).tolist()
    dice = random.Random(0)
    slow = sorted(mean(dice.choices(differences, k=30)) for _ in range(10_000))
    (found,) = compare([Pair(mean_of("all"), first, second)])
    assert found.difference == pytest.approx(mean(differences))
    assert found.interval == pytest.approx((slow[250], slow[9750]), abs=0.002)
    assert found.corrected == found.interval  # nothing to correct for
    # Power 0.8 of a two-sided test at 5%, with a bootstrap's standard error.
    error = stdev(differences) * (29 / 30) ** 0.5 / 30**0.5
    assert found.detectable == pytest.approx(2.8 * error, rel=0.03)


def test_the_smallest_detectable_difference_is_found_in_four_of_five_experiments():
    error = 0.1 / 30**0.5
    shift = (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)) * error
    found = [compare([Pair(mean_of("all"), *normal_scores(shift, 30, seed))])[0].found for seed in range(150)]
    assert 0.7 < mean(found) < 0.92


def test_without_a_difference_few_are_found():
    found = [compare([Pair(mean_of("all"), *normal_scores(0, 30, seed))])[0].found for seed in range(150)]
    assert mean(found) < 0.12


@pytest.mark.parametrize("shifts", [(0.05, 0.045, 0.04, 0.0), (0.03, 0.06, 0.035, 0.035), (0.0, 0.0, 0.0, 0.06)])
def test_holm_is_that_of_the_textbook(shifts):
    pairs = [Pair(mean_of("all"), *normal_scores(shift, 30, seed)) for seed, shift in enumerate(shifts)]
    found = compare(pairs)
    draws = draw(30)
    differences = [pair.metric(pair.first, draws) - pair.metric(pair.second, draws) for pair in pairs]
    p = [2 * min((d <= 0).mean(), (d >= 0).mean()) for d in differences]
    expected, going_on = [False] * 4, True
    for rank, n in enumerate(np.argsort(p, kind="stable")):
        going_on = going_on and p[n] < 0.05 / (4 - rank)
        expected[n] = bool(going_on)
    assert [each.found for each in found] == expected
    assert any(expected)
    for each, alone in zip(found, differences, strict=True):
        assert each.interval == interval_of(alone, 0.05)
        assert each.corrected[0] <= each.interval[0] < each.interval[1] <= each.corrected[1]
        assert each.found == (not each.corrected[0] <= 0 <= each.corrected[1])


@pytest.mark.parametrize(("shift", "margin"), [(0.0, 0.0), (0.0, 0.06), (-0.06, 0.0), (-0.06, 0.06), (-0.06, 0.03)])
def test_a_margin_asks_whether_the_first_is_not_worse_than_that(shift, margin):
    pair = Pair(mean_of("all"), *normal_scores(shift, 30, seed=1), margin)
    (found,) = compare([pair])
    (plain,) = compare([Pair(pair.metric, pair.first, pair.second)])
    # Not worse than the margin is the same as ahead of a rival that is worse by the margin.
    (moved,) = compare([Pair(pair.metric, pair.first, {"all": pair.second["all"] - margin})])
    assert found.found == moved.found
    assert found.corrected == plain.corrected
    assert found.found == (not found.corrected[0] <= -margin <= found.corrected[1])
    assert found.difference == plain.difference


def test_planned_comparisons_that_were_not_made_count():
    pairs = [Pair(mean_of("all"), *normal_scores(0.05, 30, seed)) for seed in range(2)]
    draws = draw(30)
    differences = [pair.metric(pair.first, draws) - pair.metric(pair.second, draws) for pair in pairs]
    found = compare(pairs, planned=6)
    p = [2 * min((d <= 0).mean(), (d >= 0).mean()) for d in differences]
    levels = [0.05 / 6, 0.05 / 5] if p[0] <= p[1] else [0.05 / 5, 0.05 / 6]
    assert all(each.found for each in found)
    assert [each.corrected for each in found] == [
        interval_of(d, own) for d, own in zip(differences, levels, strict=True)
    ]


def test_nothing_planned_is_nothing_found():
    assert compare([]) == []
