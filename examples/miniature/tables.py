"""The tables of the results pages, made from the runs that are done."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from examples.miniature import listings
from examples.miniature.actions import PERSONS
from examples.miniature.jobs import (
    FEW,
    FEW_SHOT_SEEDS,
    NEIGHBOURS,
    SEEDS,
    SHOTS,
    TABLE_8,
    VARIANTS,
    Job,
)
from examples.miniature.markdown import WITHOUT, markdown
from examples.miniature.paired import Comparison, Metric, Pair, Scores, compare, mean_of, value
from examples.miniature.primary import METRICS, QUESTIONS, Question, answers, verdict
from examples.miniature.rows import Row, with_averages
from examples.miniature.run import WEIGHTS
from examples.miniature.scores import RECALL_AT, Cell, Records, common, scores_of
from examples.miniature.tasks import Tasks

MARKED = re.compile(r"<!-- ablation: ([\w-]+) -->\n.*?<!-- /ablation -->", flags=re.DOTALL)
SHOT_NUMBERS = (1, 2, 4, 8)
NOT_RUN = "Not run."


@dataclass(frozen=True)
class Table:
    """Rows with their means, and secondary comparisons with one of them.

    Attributes:
        setting: Of its runs.
        reference: The row that the others are compared with.
        rows: All rows, the reference among them.
        metrics: A column for each.
        shots: The Ks of its runs.
        runs: How many runs of each row the protocol has.
        featured: The method whose runs a table must have.
    """

    setting: str
    reference: Row
    rows: list[Row]
    metrics: dict[str, Metric]
    shots: tuple[int, ...] = (SHOTS,)
    runs: int = len(PERSONS) * SEEDS
    featured: str = "vilt"


_METHODS = ["zero-shot", "probe", "coop", "kgcoop", *NEIGHBOURS, "independent", "vilt"]
TABLES = {
    "summary": Table(
        "base-novel", Row("zero-shot"), with_averages(["zero-shot", "probe", "independent", "vilt"]), METRICS
    ),
    "methods": Table("base-novel", Row("zero-shot"), with_averages(_METHODS), METRICS),
    "variants": Table(
        "base-novel",
        Row("vilt"),
        [Row("vilt"), *with_averages(["vilt-tau007", "text", *VARIANTS])],
        METRICS,
    ),
    "weights": Table(
        "base-novel",
        Row("vilt"),
        [Row("vilt"), *(Row("vilt", weight) for weight in WEIGHTS), Row("zero-shot")],
        METRICS,
    ),
    "few-shot": Table(
        "few-shot",
        Row("zero-shot"),
        with_averages(FEW),
        {f"K = {K}": mean_of(f"K = {K}") for K in SHOT_NUMBERS},
        SHOT_NUMBERS,
        len(PERSONS) * FEW_SHOT_SEEDS,
    ),
    "retrieval": Table(
        "retrieval",
        Row("zero-shot"),
        [Row(method) for method in TABLE_8],
        {f"{test} R@{k}": mean_of(f"{test} R@{k}") for test in ("base", "novel") for k in RECALL_AT},
        (0,),
        SEEDS,
        featured="vilt-n6",
    ),
}


def filled(page: str, records: Records, tasks: Tasks) -> str:
    """Replace the tables between the marks of a page.

    Raises:
        ValueError: If a mark does not name a table.
    """
    special: dict[str, Callable[[Records, Tasks], str]] = {
        "primary": primary,
        "folds": folds,
        "zero-shot": listings.zero_shot,
        "rates": listings.rates,
        "runs": listings.runs,
    }

    def between(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES and name not in special:
            raise ValueError(f"there is no table {name!r}: choose one of {', '.join([*TABLES, *special])}")
        made = special[name](records, tasks) if name in special else table(TABLES[name], records, tasks)
        return f"<!-- ablation: {name} -->\n\n{made}\n\n<!-- /ablation -->"

    return MARKED.sub(between, page)


def primary(records: Records, tasks: Tasks) -> str:
    """The six primary comparisons, with corrected intervals, and verdicts where all planned runs are there."""
    planned = len(PERSONS) * SEEDS
    answered = {answer.question: answer for answer in answers(records, tasks)}
    rows = []
    for question in QUESTIONS:
        row = [f"{question.first.title} - {question.second.title}", question.metric]
        if answer := answered.get(question):
            row += [
                f"{len(answer.cells)} of {planned}",
                f"{100 * answer.comparison.difference:+.1f} ({_signed(answer.comparison.corrected)})",
                verdict(answer) if len(answer.cells) == planned else "unfinished",
            ]
        else:
            row += [f"0 of {planned}", WITHOUT, "not run"]
        rows.append(row)
    header = ["primary comparison", "metric", "runs", "points (corrected interval)", "result"]
    return markdown(header, rows) if answered else NOT_RUN


def folds(records: Records, tasks: Tasks) -> str:
    """The differences of the primary comparisons, for each person under test alone."""
    by_question: dict[Question, dict[str, str]] = {}
    for person in PERSONS:
        for answer in answers(records, tasks, [person]):
            by_question.setdefault(answer.question, {})[person] = f"{100 * answer.comparison.difference:+.1f}"
    rows = [
        [
            f"{question.first.title} - {question.second.title}",
            question.metric,
            *(found.get(person, WITHOUT) for person in PERSONS),
        ]
        for question, found in by_question.items()
    ]
    return markdown(["difference in points, tested on", "metric", *PERSONS], rows) if rows else NOT_RUN


def table(what: Table, records: Records, tasks: Tasks) -> str:
    """The mean of each row, and its difference from the reference with an interval that is not corrected."""
    scores, cells = table_scores(what, records, tasks)
    if what.reference not in scores:
        return NOT_RUN
    rows = []
    for row, own in scores.items():
        differences = differences_from(what, scores, row)
        cells_of_row = [
            f"{100 * value(metric, own):.1f}" + (f" ({_signed(differences[name].interval)})" if differences else "")
            if _has(own, name)
            else WITHOUT
            for name, metric in what.metrics.items()
        ]
        trained = records[Job(what.setting, row.method, *cells[0], what.shots[0])]["trained"]
        rows.append([row.title, f"{trained:,}", *cells_of_row])
    header = ["", "trained", *what.metrics]
    note = f"In brackets: 95% interval of the difference from {what.reference.title}, in points, not corrected."
    return f"{_who(cells, what.runs)} {note}\n\n{markdown(header, rows)}"


def table_scores(what: Table, records: Records, tasks: Tasks) -> tuple[dict[Row, Scores], list[Cell]]:
    """The scores of each row that has the runs, over the tests and seeds that all these rows have."""
    methods = list(dict.fromkeys(row.method for row in what.rows))
    methods, cells = common(records, what.setting, methods, what.shots, what.featured)
    scores: dict[Row, Scores] = {}
    for row in what.rows:
        if row.method in methods:
            by_shots = {K: scores_of(records, tasks, what.setting, row, K, cells) for K in what.shots}
            several = {f"K = {K}": own["all"] for K, own in by_shots.items() if "all" in own}
            scores[row] = several or by_shots[what.shots[0]]
    return scores, cells


def differences_from(what: Table, scores: dict[Row, Scores], row: Row) -> dict[str, Comparison]:
    """A row minus the reference, in every metric that both have; each interval as if it were the only one."""
    if row == what.reference:
        return {}
    return {
        name: compare([Pair(metric, scores[row], scores[what.reference])])[0]
        for name, metric in what.metrics.items()
        if _has(scores[row], name)
    }


def _has(scores: Scores, metric: str) -> bool:
    return metric in scores or (metric == "harmonic mean" and {"base", "novel"} <= scores.keys())


def _who(cells: list[Cell], planned: int) -> str:
    """Which runs a table is made of."""
    persons, seeds = sorted({person for person, _ in cells}), sorted({seed for _, seed in cells})
    who = f"tested on {', '.join(persons)}; " if persons != [""] else ""
    count = f"{planned} runs" if len(cells) == planned else f"Only {len(cells)} of {planned} planned runs"
    return f"{count} of each row: {who}seeds {', '.join(map(str, seeds))}."


def _signed(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * low:+.1f} to {100 * high:+.1f}"
