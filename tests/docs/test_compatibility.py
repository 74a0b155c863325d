"""The page "What works with what" names the versions that are tested, and a test for each of its rows."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "compatibility.md").read_text()
VERSIONS = "package | lowest | a year ago | newest tried"


def rows(header: str) -> list[list[str]]:
    """The rows of all tables with this header, as cells."""
    tables = re.findall(rf"^\| {re.escape(header)} \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    return [line.strip("| ").split(" | ") for table in tables for line in table.splitlines()]


def test_the_versions_are_those_that_are_tested():
    lowest = dict(re.findall(r'^    "([\w-]+)>=([\d.]+)",$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE))
    middle = dict(re.findall(r"([\w-]+)==([\d.]+)", (ROOT / ".ci" / "minimum").read_text()))
    table = rows(VERSIONS)
    assert [row[0] for row in table] == ["torch", "open_clip_torch", "timm", "transformers", "peft", "huggingface_hub"]
    for package, least, year_ago, _ in table:
        assert least == lowest[package]
        assert year_ago == middle[package]


def test_what_older_versions_lack_is_of_versions_that_are_allowed():
    lowest = {package.removesuffix("_torch"): least for package, least, *_ in rows(VERSIONS)}
    named = [re.fullmatch(r"(\w+) before ([\d.]+)", row[0]) for row in rows("with | this is missing")]
    before = [found.groups() for found in named if found]
    assert before
    for package, version in before:
        assert [*map(int, lowest[package].split("."))] < [*map(int, version.split("."))], package


def test_each_row_says_whether_it_works_and_names_a_test():
    kinds = ("tool", "function", "tool", "feature")
    tables = [rows(f"{kind} | version tried | works / needs / does not | test") for kind in dict.fromkeys(kinds)]
    assert sum(map(len, tables)) >= 20
    for name, version, verdict, test in (row for table in tables for row in table):
        assert re.search(r"\d", version), name
        assert re.match(r"works?\b|needs\b|does not\b", verdict), name
        assert re.search(r"\]\(\.\./tests/[\w/]+\.py\)", test), name


def test_each_skipped_feature_is_on_the_page():
    missing = " ".join(row[0] for row in rows("with | this is missing"))
    marks = {
        mark
        for file in (ROOT / "tests").rglob("test_*.py")
        for mark in re.findall(r'mark\.needs\("(\w+)", "([\d.]+)"', file.read_text())
    }
    assert marks
    for package, lowest in marks:
        assert f"{package.removesuffix('_torch')} before {lowest}" in missing
