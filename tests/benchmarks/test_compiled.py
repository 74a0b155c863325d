"""The comparison of compiled and eager runs, with a tiny model and a backend that compiles nothing."""

from __future__ import annotations

import pytest

from benchmarks import compiled


@pytest.mark.slow
def test_the_table_is_written_into_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmarks: compiled -->\n<!-- /benchmarks -->\n")
    compiled.main(["--model", "tiny", "--frames", "2", "--rounds", "1", "--backend", "eager", "--write", str(page)])
    lines = page.read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith(("| text", "| training", "| inference"))]
    assert [row[0] for row in rows] == [
        "| text, forward and backward, hmdb51",
        "| training step, hmdb51, frames: 2",
        "| inference, frames: 2",
    ]
    assert all(float(row[1]) > 0 and float(row[2]) > 0 for row in rows)
