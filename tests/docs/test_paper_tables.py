"""The tables of the paper's numbers take in results, and stand on the page as they are made."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from docs import paper_tables
from docs.paper_tables import cells, filled, flops, hours, read


def run_folder(folder: Path, **results: float) -> Path:
    folder.mkdir()
    metrics = {name.replace("_", " "): value for name, value in results.items()}
    (folder / "results.json").write_text(json.dumps({"metrics": metrics}))
    return folder


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)  # open_clip warns that there are no weights
    yield
    logging.disable(logging.NOTSET)


def test_the_page_is_up_to_date():
    text = paper_tables.PAGE.read_text()
    assert text.count("<!-- paper: ") == 4
    assert filled(text, json.loads(paper_tables.KEPT.read_text())) == text, "run python -m docs.paper_tables"


def test_every_cell_has_a_place_on_the_page():
    page = paper_tables.PAGE.read_text()
    empty = filled(page, {})
    for cell in cells():
        numbers = [12.34, 23.45, 34.56]
        changed = [line for line in filled(page, {cell: numbers}).splitlines() if line not in empty.splitlines()]
        assert len(changed) == 1, cell
        assert "12.3" in changed[0]
        # The data set of the cell stands in the line.
        assert changed[0].startswith(f"| {cell.split('/')[1]} |")


def test_runs_are_averaged(tmp_path):
    a = run_folder(tmp_path / "a", **{"base top-1": 70.0, "novel top-1": 40.0, "harmonic mean": 50.9})
    b = run_folder(tmp_path / "b", **{"base top-1": 80.0, "novel top-1": 60.0, "harmonic mean": 68.6})
    assert read("base-to-novel/HMDB-51/vilt", [a, b]) == pytest.approx([75, 50, 60])
    few = run_folder(tmp_path / "few", **{"test top-1": 61.5, "test top-5": 90.0})
    assert read("few-shot/UCF-101/4/vilt", [few]) == [61.5]
    assert read("supervised/Kinetics-400", [few]) == [61.5, 90]
    both = {"hmdb51 split 1 top-1": 1.0, "hmdb51 mean top-1": 45.0, "UCF-101 mean top-1": 73.0}
    others = run_folder(tmp_path / "others", **both)
    assert read("zero-shot/HMDB-51", [others]) == [45]
    assert read("zero-shot/UCF-101", [others]) == [73]


@pytest.mark.parametrize(
    ("cell", "results", "message"),
    [
        (
            "few-shot/UCF-101/3/vilt",
            {"test top-1": 1.0},
            "there is no cell 'few-shot/UCF-101/3/vilt': choose one of few",
        ),
        ("few-shot/UCF-101/4/vilt", {"base top-1": 1.0}, "is not a run for few-shot/UCF-101/4/vilt: it has base top-1"),
        ("zero-shot/HMDB-51", {"UCF-101 mean top-1": 1.0}, "is not a run for zero-shot/HMDB-51"),
    ],
)
def test_other_runs_are_refused(tmp_path, cell, results, message):
    with pytest.raises(ValueError, match=message):
        read(cell, [run_folder(tmp_path / "run", **results)])


def test_one_command_adds_a_result(tmp_path, monkeypatch):
    page, kept = tmp_path / "page.md", tmp_path / "kept.json"
    page.write_text("before\n<!-- paper: supervised -->\n<!-- /paper -->\nafter\n")
    kept.write_text("{}")
    monkeypatch.setattr(paper_tables, "PAGE", page)
    monkeypatch.setattr(paper_tables, "KEPT", kept)
    run = run_folder(tmp_path / "run", **{"test top-1": 76.54, "test top-5": 93.21})
    monkeypatch.setattr(sys, "argv", ["paper_tables.py", "supervised/Kinetics-400", str(run)])
    paper_tables.main()
    assert "| Kinetics-400 | 77.6 | 76.5 | 94.5 | 93.2 | " in page.read_text()
    assert page.read_text().startswith("before\n")
    assert json.loads(kept.read_text()) == {"supervised/Kinetics-400": [76.54, 93.21]}
    monkeypatch.setattr(sys, "argv", ["paper_tables.py", "supervised/Kinetics-400"])
    with pytest.raises(SystemExit, match="no run was given for supervised/Kinetics-400"):
        paper_tables.main()


def test_hours_are_those_of_a_count_by_hand():
    inference, step = flops(10, None)
    # 12 layers of width 768, 197 tokens, and 10 more keys and values: two operations for each multiplication.
    d, tokens, n = 768, 197, 10
    layer = 2 * (tokens * 12 * d * d + n * 2 * d * d + 2 * tokens * (tokens + n) * d)
    patches, last = (
        2 * 196 * 768 * d,
        2 * (tokens - 1) * (10 * d * d + 2 * (tokens + n) * d),
    )  # one query in the last layer
    assert inference == pytest.approx(12 * layer + patches - last, rel=0.02)
    assert 2.9 * inference < step < 3.2 * inference  # forward twice, and a backward pass without weights
    expected = (100 * 30 * 32 * step + 6 * 50 * 32 * inference) / paper_tables.SPEED / 3600
    assert float(hours(100, 50, 30, 32)) == pytest.approx(expected, abs=0.051)
