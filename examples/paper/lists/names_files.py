"""Files that say which name each class number stands for."""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from examples.paper.lists.json_files import read_json
from examples.paper.lists.text_files import read_lines

FORMS = "id,name rows, one name a line, `1 Name` lines such as UCF-101's classInd.txt, or JSON {name: number}"
_NAME_COLUMNS = ("name", "class", "class_name", "classname", "label", "label_name", "action", "display_name")
_TITLES = ("name", "class_name", "classname", "label", "label_name")  # what a class itself is hardly ever called


@dataclass(frozen=True)
class ClassNames:
    """The classes of a data set.

    Attributes:
        file: Where they were read.
        names: Number to name, ascending.
        numbered: Whether the file gives the numbers; otherwise the first name is number 0.
    """

    file: Path
    names: dict[int, str]
    numbered: bool


def read_names(file: Path) -> ClassNames:
    """Reads class names in any of the usual forms.

    Args:
        file: `id,name` rows in either order, with or without a header; lines `1 ApplyEyeMakeup` or `ApplyEyeMakeup 1`;
            one name a line; JSON from name to number, from number to name, or a list of names.

    Raises:
        ValueError: The file is empty or damaged, or a number or a name occurs twice.
    """
    pairs: Pairs | None
    if file.suffix.lower() == ".json":
        pairs, numbered = _json(file)
    else:
        pairs, numbered = _numbered_lines(file), True
        if pairs is None:
            lines = [(text, number, line) for number, (line, text) in enumerate(read_lines(file))]
            # A spreadsheet quotes names that hold a comma, and gives a column of names a header.
            pairs = [(_unquoted(text), number, f"line {line}") for text, number, line in lines]
            if pairs[0][0].lower() in _TITLES:
                pairs = [(name, number - 1, where) for name, number, where in pairs[1:]]
            numbered = False
    if not pairs:
        raise ValueError(f"{file} holds no class names: expected {FORMS}")
    numbers: dict[int, str] = {}
    places: dict[str, str] = {}
    for name, number, where in pairs:
        if not name:
            raise ValueError(f"{file} has no name in {where}")
        if number in numbers:
            raise ValueError(f"{file} gives the number {number} to {numbers[number]!r} and, in {where}, to {name!r}")
        if name in places:
            raise ValueError(f"{file} holds {name!r} twice, in {places[name]} and {where}")
        numbers[number] = name
        places[name] = where
    return ClassNames(file, {number: numbers[number] for number in sorted(numbers)}, numbered)


Pairs = list[tuple[str, int, str]]  # name, number, and where it is written


def _json(file: Path) -> tuple[Pairs, bool]:
    content = read_json(file)
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [(name.strip(), number, f"entry {number + 1}") for number, name in enumerate(content)], False
    if isinstance(content, dict) and all(isinstance(value, str | int) for value in content.values()):
        items = [(str(key).strip(), str(value).strip()) for key, value in content.items()]
        if all(_is_number(value) for _, value in items):  # {"abseiling": 0}, {"Holding something": "1"}
            return [(key, int(value), f"the entry {key!r}") for key, value in items], True
        if all(_is_number(key) for key, _ in items):
            return [(value, int(key), f"the entry {key!r}") for key, value in items], True
    raise ValueError(f"{file} must be JSON from name to number, from number to name, or a list of names")


def _numbered_lines(file: Path) -> Pairs | None:
    """Names with numbers, from a table or from lines; None if the lines are names alone."""
    lines = read_lines(file)
    for delimiter in (",", ";", "\t"):
        pairs = _table(lines, delimiter)
        if pairs is not None:
            return pairs
    for form in (r"(?P<number>\d+)[\s,;:]+(?P<name>.+)", r"(?P<name>.+?)[\s,;:]+(?P<number>\d+)"):
        matches = [(re.fullmatch(form, text), number) for number, text in lines]
        if all(match for match, _ in matches):
            return [(match["name"].strip(), int(match["number"]), f"line {n}") for match, n in matches if match]
    return None


def _table(lines: Iterable[tuple[int, str]], delimiter: str) -> Pairs | None:
    """Rows of a number and a name, the header left out; None if they are something else."""
    text = "\n".join(line for _, line in lines)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter)]
    except csv.Error:  # A line is longer than any table's: it is not one.
        return None
    if len(rows[0]) < 2:
        return None
    header = None if any(_is_number(cell) for cell in rows[0]) else [cell.lower() for cell in rows[0]]
    body = rows if header is None else rows[1:]
    if not body or any(len(row) < 2 for row in body):
        return None
    width = min(len(row) for row in body)
    columns = [column for column in range(width) if all(_is_number(row[column]) for row in body)]
    if not columns:
        return None
    number = columns[0]
    name = 1 if number == 0 else 0
    if header is not None:
        name = next(
            (column for column, title in enumerate(header) if title in _NAME_COLUMNS and column != number), name
        )
    last = name == (len(header) if header is not None else 2) - 1  # A name that holds the delimiter may go on.
    return [
        (f"{delimiter} ".join(row[name:]) if last else row[name], int(row[number]), f"row {place}")
        for place, row in enumerate(body, 1)
    ]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text
