"""The comparisons of `docs/results.md`, made of the runs that are done."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from miniature.actions import PERSONS
from miniature.jobs import OPEN, SHOTS, TABLE_8, TRAINED, TRIED, UNTRAINED, Job
from miniature.listings import clean, grid, zero_shot
from miniature.markdown import WITHOUT, markdown
from miniature.methods import METHODS
from miniature.paired import Comparison, Metric, Scores, compare, harmonic_mean_of, mean_of, value
from miniature.scores import RECALL_AT, Records, common, scores_of
from miniature.tasks import Tasks

MARKED = re.compile(r"<!-- ablation: ([\w-]+) -->\n.*?<!-- /ablation -->", flags=re.DOTALL)
BASE_NOVEL = {
    "base": mean_of("base"),
    "novel": mean_of("novel"),
    "harmonic mean": harmonic_mean_of("base", "novel"),
}
RECALLS = {f"{test} R@{k}": mean_of(f"{test} R@{k}") for test in ("base", "novel") for k in RECALL_AT}
SHOT_NUMBERS = (1, 2, 4, 8)
FEW_SHOT = {f"K = {K}": mean_of(f"K = {K}") for K in SHOT_NUMBERS}


@dataclass(frozen=True)
class Table:
    """What a table compares.

    Attributes:
        setting: Of its runs.
        featured: The method that it is about.
        methods: A line for each.
        metrics: A column for each.
        planned: Pairs of methods, the first to be compared with the second in every metric.
        shots: The Ks of its runs.
        persons: Whose tests count.
    """

    setting: str
    featured: str
    methods: list[str]
    metrics: dict[str, Metric]
    planned: list[tuple[str, str]]
    shots: tuple[int, ...] = (SHOTS,)
    persons: tuple[str, ...] = ("", *PERSONS)


_MAIN = UNTRAINED + TRAINED
TABLES = {
    "main": Table("base-novel", "vilt", _MAIN, BASE_NOVEL, [("vilt", other) for other in _MAIN if other != "vilt"]),
    "parts": Table(
        "base-novel",
        "vilt",
        ["zero-shot", "text", "independent-alpha0", "vilt-alpha0", "vilt", "vpt", "text-scenario", "independent",
         "independent-n14"],
        BASE_NOVEL,
        [("text", "zero-shot"), ("independent-alpha0", "text"), ("vilt-alpha0", "independent-alpha0"),
         ("vilt", "vilt-alpha0"), ("vilt", "vpt"), ("vilt", "text-scenario"), ("vilt", "independent"),
         ("vilt", "independent-n14")],
    ),
    "text-side": Table(
        "base-novel",
        "coop",
        ["zero-shot", "centroid", "probe", "coop", "kgcoop", "text", "text-scenario"],
        BASE_NOVEL,
        [*((method, "zero-shot") for method in ("probe", "coop", "kgcoop", "text", "text-scenario")),
         ("kgcoop", "coop"), ("text-scenario", "text"), ("text", "coop")],
    ),
    "tried": Table(
        "base-novel",
        "vilt-s4",
        ["zero-shot", "probe", "vilt", *TRIED],
        BASE_NOVEL,
        [("vilt-s4", other) for other in ("zero-shot", "vilt", *TRIED) if other != "vilt-s4"],
    ),
    "few-shot": Table(
        "few-shot",
        "vilt",
        _MAIN,
        FEW_SHOT,
        [*((method, "zero-shot") for method in ("probe", "coop", "kgcoop")),
         *(("vilt", other) for other in _MAIN if other != "vilt")],
        SHOT_NUMBERS,
    ),
    "open": Table("base-novel", "vilt", ["vilt", *OPEN], BASE_NOVEL, [(other, "vilt") for other in OPEN]),
    "retrieval": Table(
        "retrieval", "vilt-n6", TABLE_8, RECALLS, [("vilt-n6", other) for other in TABLE_8 if other != "vilt-n6"], (0,)
    ),
}  # fmt: skip
# Where not all methods were run on all folds: all methods on one.
TABLES["few-shot-one"] = replace(TABLES["few-shot"], persons=PERSONS[:1])


def filled(page: str, records: Records, tasks: Tasks) -> str:
    """A page with the tables between its marks made anew.

    Raises:
        ValueError: If a mark names no table.
    """
    special = {"zero-shot": zero_shot, "grid": grid, "clean": clean}

    def between(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES and name not in special:
            raise ValueError(f"there is no table {name!r}: choose one of {', '.join([*TABLES, *special])}")
        made = special[name](records, tasks) if name in special else table(TABLES[name], records, tasks)
        return f"<!-- ablation: {name} -->\n\n{made}\n\n<!-- /ablation -->"

    return MARKED.sub(between, page)


def table(what: Table, records: Records, tasks: Tasks) -> str:
    """The smallest detectable difference, the means, and the planned comparisons."""
    records = {job: record for job, record in records.items() if job.person in what.persons}
    methods, cells = common(records, what.setting, what.methods, what.shots, what.featured)
    if not cells:
        return "Not run."
    scores = {method: _scores(what, method, records, tasks, cells) for method in methods}
    planned = [
        (metric, first, second)
        for first, second in what.planned
        for metric in what.metrics
        if first in methods and second in methods and _has(scores[first], metric) and _has(scores[second], metric)
    ]
    found = compare([(what.metrics[metric], scores[a], scores[b]) for metric, a, b in planned])
    by_pair = {(a, b): {} for _, a, b in planned}
    for (metric, a, b), comparison in zip(planned, found, strict=True):
        by_pair[a, b][metric] = comparison
    persons, seeds = sorted({person for person, _ in cells}), sorted({seed for _, seed in cells})
    who = f", tested on: {', '.join(persons)}" if persons != [""] else ""
    lines = [f"{len(cells)} runs of each method{who}, seeds {', '.join(map(str, seeds))}.", ""]
    if found:
        smallest = [
            f"{metric} {min(each):.1f} to {max(each):.1f}"
            for metric in what.metrics
            if (each := [100 * pairs[metric].detectable for pairs in by_pair.values() if metric in pairs])
        ]
        lines = [f"Smallest detectable difference, in points: {'; '.join(smallest)}.", "", *lines]
    rows = [
        [METHODS[method].title, f"{_trained(what, method, records, cells):,}", *_percents(what, scores[method])]
        for method in methods
    ]
    lines += [markdown(["", "trained", *what.metrics], rows), ""]
    rows = [
        [f"{METHODS[a].title} - {METHODS[b].title}", *(_cell(pairs.get(metric)) for metric in what.metrics)]
        for (a, b), pairs in by_pair.items()
    ]
    if rows:
        lines += [markdown(["difference in points (corrected interval)", *what.metrics], rows)]
    return "\n".join(lines).strip()


def _scores(what: Table, method: str, records: Records, tasks: Tasks, cells: list[tuple[str, int]]) -> Scores:
    by_shots = {K: scores_of(records, tasks, what.setting, method, K, cells) for K in what.shots}
    if len(what.shots) == 1:
        return by_shots[what.shots[0]]
    return {f"K = {K}": scores["all"] for K, scores in by_shots.items()}


def _has(scores: Scores, metric: str) -> bool:
    return metric in scores or {"base", "novel"} <= scores.keys()


def _trained(what: Table, method: str, records: Records, cells: list[tuple[str, int]]) -> int:
    person, seed = cells[0]
    trained: int = records[Job(what.setting, method, person, seed, what.shots[0])]["trained"]
    return trained


def _percents(what: Table, scores: Scores) -> Iterator[str]:
    for name, metric in what.metrics.items():
        yield f"{100 * value(metric, scores):.1f}" if _has(scores, name) else WITHOUT


def _cell(comparison: Comparison | None) -> str:
    if comparison is None:
        return WITHOUT
    low, high = (100 * end for end in comparison.corrected)
    verdict = "no detectable difference"
    if comparison.found:
        verdict = "**ahead**" if comparison.difference > 0 else "**behind**"
    return f"{100 * comparison.difference:+.1f} ({low:+.1f} to {high:+.1f}), {verdict}"
