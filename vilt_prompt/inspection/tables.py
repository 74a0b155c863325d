"""Results that print as a table, in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape


class Table:
    """Lines of text above rows of cells. The first row holds the headings."""

    _lines: Callable[[], Sequence[str]]
    _cells: Callable[[], Sequence[Sequence[str]]]

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
        rows = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*self._lines(), *([""] if rows else []), *rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "<br>".join(escape(line) for line in self._lines())
        rows = ""
        for i, row in enumerate(self._cells()):
            tag = "td" if i else "th"
            rows += "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"
        return f"<p>{lines}</p>" + (f"<table>{rows}</table>" if rows else "")
