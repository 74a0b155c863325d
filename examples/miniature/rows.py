"""The rows of tables: a method alone, or averaged with the frozen model."""

from dataclasses import dataclass

from examples.miniature.methods import METHODS

AVERAGED = 0.5  # the weight of the frozen model, fixed before the runs


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        method: A name in `METHODS`.
        weight: The weight of the frozen model's scores. 0: the trained model alone.
    """

    method: str
    weight: float = 0.0

    @property
    def title(self) -> str:
        """Its name in tables."""
        title = METHODS[self.method].title
        if self.weight == 0:
            return title
        return f"{title}, averaged" if self.weight == AVERAGED else f"{title}, averaged, weight {self.weight:g}"


def with_averages(methods: list[str]) -> list[Row]:
    """A row for each method, and one for the average with the frozen model where the method is trained."""
    rows: list[Row] = []
    for method in methods:
        rows.append(Row(method))
        if METHODS[method].is_trained:
            rows.append(Row(method, AVERAGED))
    return rows
