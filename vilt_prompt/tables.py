"""How a table prints: aligned in a terminal, as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


class Table:
    """Lines of text, then cells under headings."""

    def _lines(self) -> Sequence[str]:
        raise NotImplementedError

    def _cells(self) -> Sequence[Sequence[str]]:
        """The rows, the first of which has the headings."""
        raise NotImplementedError

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
        rows = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*self._lines(), *([""] if rows else []), *rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "<br>".join(escape(line) for line in self._lines())
        tags = ["th", *["td"] * len(self._cells())]
        rows = [
            "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, row in zip(tags, self._cells(), strict=False)
        ]
        return f"<p>{lines}</p>" + (f"<table>{''.join(rows)}</table>" if rows else "")
