"""The six primary comparisons, fixed before the runs. Holm's procedure corrects over these and no others."""

from collections.abc import Sequence
from dataclasses import dataclass

from examples.miniature.actions import PERSONS
from examples.miniature.jobs import SHOTS
from examples.miniature.paired import Comparison, Metric, Pair, compare, harmonic_mean_of, mean_of
from examples.miniature.rows import AVERAGED, Row
from examples.miniature.scores import Cell, Records, cells_of, scores_of
from examples.miniature.tasks import Tasks

METRICS: dict[str, Metric] = {
    "base": mean_of("base"),
    "novel": mean_of("novel"),
    "harmonic mean": harmonic_mean_of("base", "novel"),
}


@dataclass(frozen=True)
class Question:
    """One primary comparison.

    Attributes:
        first: The row of interest.
        second: The row that is subtracted.
        metric: A name in `METRICS`.
        margin: How much worse the first row may be, as a share.
    """

    first: Row
    second: Row
    metric: str
    margin: float = 0.0


_VILT, _AVERAGED, _ZERO_SHOT = Row("vilt"), Row("vilt", AVERAGED), Row("zero-shot")
QUESTIONS = [
    Question(_VILT, _ZERO_SHOT, "base"),
    Question(_AVERAGED, _ZERO_SHOT, "harmonic mean"),
    Question(_AVERAGED, _ZERO_SHOT, "novel", margin=0.03),
    Question(_AVERAGED, Row("vilt-tau007", AVERAGED), "harmonic mean"),
    Question(_VILT, Row("independent"), "harmonic mean"),
    Question(_VILT, Row("probe"), "base"),
]


@dataclass(frozen=True)
class Answer:
    """The answer to a question, and the tests and seeds that both of its rows have run."""

    question: Question
    cells: list[Cell]
    comparison: Comparison


def answers(records: Records, tasks: Tasks, persons: Sequence[str] = PERSONS) -> list[Answer]:
    """The primary comparisons that have runs; the correction counts all of `QUESTIONS`.

    Args:
        records: All runs.
        tasks: All tasks.
        persons: Whose tests count.

    Returns:
        In the order of `QUESTIONS`, without questions that have no runs.
    """
    answered: list[tuple[Question, list[Cell]]] = []
    pairs: list[Pair] = []
    for question in QUESTIONS:
        rows = question.first, question.second
        done = (cells_of(records, "base-novel", row.method, (SHOTS,)) for row in rows)
        cells = sorted(cell for cell in set.intersection(*done) if cell[0] in persons)
        if cells:
            first, second = (scores_of(records, tasks, "base-novel", row, SHOTS, cells) for row in rows)
            pairs.append(Pair(METRICS[question.metric], first, second, question.margin))
            answered.append((question, cells))
    compared = compare(pairs, planned=len(QUESTIONS))
    return [Answer(question, cells, found) for (question, cells), found in zip(answered, compared, strict=True)]


def verdict(answer: Answer) -> str:
    """The answer in words."""
    margin, found, difference = answer.question.margin, answer.comparison.found, answer.comparison.difference
    if margin:
        allowed = f"{100 * margin:.0f}"
        if not found:
            return f"a loss of more than {allowed} is not ruled out"
        return f"**not worse than -{allowed}**" if difference > -margin else f"**worse than -{allowed}**"
    if not found:
        return "no detectable difference"
    return "**ahead**" if difference > 0 else "**behind**"
