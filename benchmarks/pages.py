"""Tables in pages, between two comments that name the table.

    <!-- benchmarks: targets -->
    <!-- /benchmarks -->

Each command that measures something writes its own tables there, with `--write PAGE`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from examples import page_tables

# By the module that makes them.
TABLES = {
    "benchmarks.table": ("ratios", "targets", "results", "machines"),
    "benchmarks.memory": ("memory", "inference_memory"),
    "benchmarks.launches": ("launches",),
    "benchmarks.compiled": ("compiled",),
}
MARKED = page_tables.marked("benchmarks")


def fill(page: str, made: Mapping[str, str]) -> str:
    """Replace tables of a page. The tables of other commands stay as they are.

    Args:
        page: The text of the page.
        made: Tables by name.

    Raises:
        ValueError: If a mark names no table.
    """
    known = [name for names in TABLES.values() for name in names]
    return page_tables.fill(page, "benchmarks", known, made.get)


def add_write_option(parser: argparse.ArgumentParser) -> None:
    """Add `--write PAGE...` to a command line."""
    parser.add_argument("--write", type=Path, nargs="+", default=[], metavar="PAGE", help="pages with marked tables")


def write(parser: argparse.ArgumentParser, paths: Iterable[Path], made: Mapping[str, str]) -> None:
    """Write tables into pages. A page without any marked table is an error of the command line."""
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if not MARKED.search(text):
            parser.error(f"{path} has no line <!-- benchmarks: {next(iter(made))} --> and <!-- /benchmarks -->")
        path.write_text(fill(text, made), encoding="utf-8")
