"""The tutorial notebook: it runs from a clone, shows what its cells give, and is a page of the site."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from docs import notebook_pages

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
SECONDS = 300  # on two cores


@pytest.fixture(scope="module")
def saved() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def printed(notebook: dict[str, Any]) -> str:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", "")) for output in outputs)


def accuracies(text: str) -> list[int]:
    """Percent right, zero-shot, with prompts, and with the average of prompts."""
    return [int(found) for found in re.findall(r"(?:zero-shot|with prompts|average): (\d+)% right", text)]


def test_it_is_saved_with_its_outputs(saved):
    code = [cell for cell in saved["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    for picture in pictures:
        assert Image.open(io.BytesIO(base64.b64decode("".join(picture)))).width > 300
    before, after, _ = accuracies(printed(saved))
    assert after > before + 10
    assert NOTEBOOK.stat().st_size < 500_000


def test_its_code_fits_beside_the_menu(saved):
    code = ["".join(cell["source"]) for cell in saved["cells"] if cell["cell_type"] == "code"]
    assert not [line for block in code for line in block.splitlines() if len(line) > 85]


def test_the_page_has_all_of_it(saved):
    page = notebook_pages.as_markdown(saved, NOTEBOOK.name)
    for cell in saved["cells"]:
        assert "".join(cell["source"]).strip() in page
    assert page.count("<img ") == 4
    for line in printed(saved).splitlines():
        assert line.rstrip() in page


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nbclient") is None, reason="the docs extra is not installed")
def test_it_runs(saved, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    start = time.perf_counter()
    NotebookClient(notebook, timeout=2 * SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    before, after, average = accuracies(printed(notebook))
    assert before == accuracies(printed(saved))[0]
    assert min(after, average) > before + 10
    assert time.perf_counter() - start < SECONDS
