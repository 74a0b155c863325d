"""The tables of the results pages, made from the runs that are done."""

from collections.abc import Callable, Sequence
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
from examples.miniature.paired import Comparison, Metric, Pair, Scores, compare, mean_of, value
from examples.miniature.primary import METRICS, QUESTIONS, Question, answers, verdict
from examples.miniature.rows import Row, with_averages
from examples.miniature.run import WEIGHTS
from examples.miniature.scores import RECALL_AT, Cell, Records, cells_of, scores_of
from examples.miniature.tasks import Tasks
from examples.page_tables import WITHOUT, fill, markdown, marked

MARKED = marked("ablation")
SHOT_NUMBERS = (1, 2, 4, 8)
NOT_RUN = "Not run."


@dataclass(frozen=True)
class Table:
    """Secondary comparisons of rows with one of them.

    Attributes:
        setting: Of its runs.
        reference: The row that the others are compared with.
        rows: All rows, the reference among them.
        metrics: A column for each.
        shots: The Ks of its runs.
        runs: How many runs of each row the protocol has.
    """

    setting: str
    reference: Row
    rows: list[Row]
    metrics: dict[str, Metric]
    shots: tuple[int, ...] = (SHOTS,)
    runs: int = len(PERSONS) * SEEDS


@dataclass(frozen=True)
class Line:
    """A row of a table, compared with the reference over the runs that both have.

    Attributes:
        cells: The tests and seeds of these runs.
        differences: By the name of the metric. Each interval is as if it were the only one.
    """

    cells: list[Cell]
    differences: dict[str, Comparison]


_METHODS = ["zero-shot", "probe", "coop", "kgcoop", *NEIGHBOURS, "independent", "vilt"]
TABLES = {
    "summary": Table(
        "base-novel", Row("zero-shot"), with_averages(["zero-shot", "probe", "independent", "vilt"]), METRICS
    ),
    "methods": Table("base-novel", Row("zero-shot"), with_averages(_METHODS), METRICS),
    "variants": Table(
        "base-novel",
        Row("vilt"),
        [Row("vilt"), *map(Row, NEIGHBOURS), *with_averages(["vilt-tau007", "text", *VARIANTS])],
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
    }

    def make(name: str) -> str:
        return special[name](records, tasks) if name in special else table(TABLES[name], records, tasks)

    return fill(page, "ablation", [*TABLES, *special], make)


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
    """The primary comparisons for each person under test alone, and in how many single runs they are above 0."""
    by_question: dict[Question, dict[str, str]] = {}
    for person in PERSONS:
        for answer in answers(records, tasks, [person]):
            by_question.setdefault(answer.question, {})[person] = f"{100 * answer.comparison.difference:+.1f}"
    rows = [
        [
            f"{question.first.title} - {question.second.title}",
            question.metric,
            *(found.get(person, WITHOUT) for person in PERSONS),
            above_zero(question, records, tasks),
        ]
        for question, found in by_question.items()
    ]
    header = ["difference in points, tested on", "metric", *PERSONS, "runs above 0"]
    return markdown(header, rows) if rows else NOT_RUN


def above_zero(question: Question, records: Records, tasks: Tasks) -> str:
    """In how many runs, each by itself, the first row of a comparison is above the second."""
    metric, rows = METRICS[question.metric], (question.first, question.second)
    both = set.intersection(*(cells_of(records, "base-novel", row.method, (SHOTS,)) for row in rows))
    differences = []
    for cell in both:
        first, second = (value(metric, scores_of(records, tasks, "base-novel", row, SHOTS, [cell])) for row in rows)
        differences.append(first - second)
    return f"{sum(difference > 0 for difference in differences)} of {len(differences)}"


def table(what: Table, records: Records, tasks: Tasks) -> str:
    """The reference in percent, and the other rows as differences from it with intervals that are not corrected."""
    cells, found = _cells(what, records, what.reference), compared(what, records, tasks)
    if not found:
        return NOT_RUN
    own = _scores(what, records, tasks, what.reference, cells)
    values = [f"{100 * value(metric, own):.1f}%" for metric in what.metrics.values()]
    rows = [[what.reference.title, str(len(cells)), _trained(what, records, what.reference, cells), *values]]
    for row, line in found.items():
        points = [
            f"{100 * line.differences[name].difference:+.1f} ({_signed(line.differences[name].interval)})"
            if name in line.differences
            else WITHOUT
            for name in what.metrics
        ]
        rows.append([row.title, str(len(line.cells)), _trained(what, records, row, line.cells), *points])
    note = (
        "The first row is in %; the others are differences from it in points, over the same runs. Brackets: 95% "
        "intervals, not corrected for the number of comparisons."
    )
    if any(int(row[1]) < what.runs for row in rows):
        note += f" {what.runs} runs of each row were planned."
    return f"{note}\n\n{markdown(['', 'runs', 'trained', *what.metrics], rows)}"


def compared(what: Table, records: Records, tasks: Tasks) -> dict[Row, Line]:
    """The rows that have runs in common with the reference, without the reference itself."""
    found: dict[Row, Line] = {}
    known = _cells(what, records, what.reference)
    for row in what.rows:
        cells = [cell for cell in _cells(what, records, row) if cell in known]
        if cells and row != what.reference:
            own, other = (_scores(what, records, tasks, each, cells) for each in (row, what.reference))
            metrics = {name: metric for name, metric in what.metrics.items() if _has(own, name)}
            differences = {name: compare([Pair(metric, own, other)])[0] for name, metric in metrics.items()}
            found[row] = Line(cells, differences)
    return found


def _cells(what: Table, records: Records, row: Row) -> list[Cell]:
    """The tests and seeds that a row has run with every K."""
    return sorted(cells_of(records, what.setting, row.method, what.shots))


def _scores(what: Table, records: Records, tasks: Tasks, row: Row, cells: Sequence[Cell]) -> Scores:
    """The scores of a row, by the name of the test, or of the K where the table has several."""
    by_shots = {K: scores_of(records, tasks, what.setting, row, K, cells) for K in what.shots}
    several = {f"K = {K}": own["all"] for K, own in by_shots.items() if "all" in own}
    return several or by_shots[what.shots[0]]


def _trained(what: Table, records: Records, row: Row, cells: Sequence[Cell]) -> str:
    return f"{records[Job(what.setting, row.method, *cells[0], what.shots[0])]['trained']:,}"


def _has(scores: Scores, metric: str) -> bool:
    return metric in scores or (metric == "harmonic mean" and {"base", "novel"} <= scores.keys())


def _signed(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * low:+.1f} to {100 * high:+.1f}"
