"""CSV files as spreadsheets write them: other delimiters, capitals in the header, blanks, a byte order mark."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from examples.paper.lists.text_files import read_text

DELIMITERS = (",", ";", "\t", "|")


class TableRow(NamedTuple):
    """One row.

    Attributes:
        number: From 1, not counting the header and blank lines.
        cells: The cell of each column; a column that the row is too short for is empty.
    """

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file with a header.

    Attributes:
        file: Where it was read.
        columns: Their names in lower case, with one underscore for blanks and hyphens between words.
        rows: The rows below the header.
    """

    file: Path
    columns: list[str]
    rows: list[TableRow]

    def check_columns(self, *needed: str, optional: tuple[str, ...] = ()) -> None:
        """Raises a ValueError that shows the header, if a column is missing."""
        if not set(needed) <= set(self.columns):
            shown = ",".join(needed) + "".join(f"[,{name}]" for name in optional)
            raise ValueError(f"{self.file} has the columns {', '.join(self.columns)}: expected {shown}")

    def check_filled(self, *needed: str) -> None:
        """Raises a ValueError that names the first row with an empty cell in one of these columns."""
        for number, cells in self.rows:
            for name in needed:
                if not cells[name]:
                    raise ValueError(f"{self.file} has no {name} in row {number}: {show_cells(cells)}")


def rename_columns(table: Table, others: Mapping[str, Sequence[str]]) -> Table:
    """Returns a table with the names of columns that others use replaced by ours, where ours is missing.

    Args:
        table: Any table.
        others: For each name of ours the names that others use.
    """
    names = {}
    for ours, theirs in others.items():
        name = next((name for name in theirs if name in table.columns), None)
        if ours not in table.columns and name is not None:
            names[name] = ours
    rows = [
        TableRow(number, {names.get(column, column): cell for column, cell in cells.items()})
        for number, cells in table.rows
    ]
    return Table(table.file, [names.get(column, column) for column in table.columns], rows)


def show_cells(cells: dict[str, str]) -> str:
    """Returns a row as a person would write it."""
    return ",".join(cells.values())


def read_table(file: Path) -> Table:
    """Reads a CSV file whose cells are separated by commas, semicolons, tabs or vertical bars.

    Args:
        file: The file. Its delimiter is the one that splits the header into most cells. A first line `sep=;`, which
            spreadsheets write and read, says it as well.

    Raises:
        ValueError: The file is empty or not text, two columns have one name, or a row has more cells than the header.
    """
    text = read_text(file).replace("\r\n", "\n").replace("\r", "\n")
    first, _, rest = text.lstrip().partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        delimiter, text = first.strip()[4], rest
    else:
        # Names of columns hold no delimiter of another dialect, so the header decides.
        delimiter = max(DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one))))
    try:
        lines = [
            cells
            for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not lines:
        raise ValueError(f"{file} is empty")
    columns = ["_".join(cell.lower().replace("-", " ").split()) for cell in lines[0]]
    while columns and not columns[-1]:  # A delimiter at the end of the header.
        columns.pop()
    twice = next((name for number, name in enumerate(columns) if name in columns[:number]), None)
    if twice is not None:
        raise ValueError(f"{file} has two columns named {twice!r}")
    rows = []
    for number, cells in enumerate(lines[1:], 1):
        cells = [cell.strip() for cell in cells]
        if any(cells[len(columns) :]):
            raise ValueError(
                f"{file} has {len(cells)} cells in row {number}, the header {len(columns)}: {delimiter.join(cells)}; "
                f'put cells that hold the delimiter {delimiter!r} into quotation marks (")'
            )
        cells += [""] * (len(columns) - len(cells))
        rows.append(TableRow(number, dict(zip(columns, cells, strict=False))))
    return Table(file, columns, rows)
