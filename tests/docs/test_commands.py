"""Every command in the docs that runs a script of the examples is one that the script understands."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = ("miniature.ablation", "paper.recognition", "paper.retrieval", "predict", "quickstart", "train")
SCRIPTS += ("train_accelerate", "train_lightning")


def commands(text: str) -> list[list[str]]:
    joined = re.sub(r"\\\n\s*", "", text)
    found = [re.search(rf"-m (examples\.(?:{'|'.join(SCRIPTS)}))( .*)?$", line) for line in joined.splitlines()]
    known = [(match[1], (match[2] or "").replace("$seed", "0").replace("$shots", "16")) for match in found if match]
    return [[script, *shlex.split(options, comments=True)] for script, options in known]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^ *```bash\n(.*?)^ *```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_every_script_is_shown_on_a_page():
    shown = {script for page in PAGES for block in blocks(page) for script, *_ in commands(block)}
    assert shown == {f"examples.{script}" for script in SCRIPTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page, monkeypatch):
    for block in blocks(page):
        for script, *arguments in commands(block):
            monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
            if "--help" not in arguments:
                importlib.import_module(script).arguments()


@pytest.mark.parametrize("script", ["examples.paper.recognition", "examples.paper.retrieval", "examples.predict"])
def test_examples_in_the_help_are_understood(script, monkeypatch):
    module = importlib.import_module(script)
    found = commands(module.__doc__)
    assert len(found) == 2
    for name, *arguments in found:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        module.arguments()


@pytest.mark.parametrize("page", ["recognition", "retrieval"])
def test_first_try_runs(page, tmp_path, monkeypatch):
    """The commands on the clips of this repository, as they stand on the page."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    (block,) = re.findall(r"^```bash\n(cat .*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    table, _, command = block.partition("\nCSV\n")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["bash", "-c", f"{table}\nCSV\n"], check=True)
    ((script, *arguments),) = commands(command)
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments, "--workers", "0", "--device", "cpu"])
    importlib.import_module(script).main()
    (out,) = (tmp_path / "runs").iterdir()
    assert (out / "last" / "adapter_model.safetensors").is_file()
    assert (out / "results.json").is_file()


def test_every_module_that_a_page_runs_exists():
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "examples").rglob("*.md")]
    texts = [page.read_text() for page in pages]
    run = {name for text in texts for name in re.findall(r"-m ((?:examples|benchmarks|docs)\.[\w.]*\w)", text)}
    assert {"examples.quickstart", "examples.paper.recognition", "benchmarks.run", "docs.paper_tables"} <= run
    assert not [name for name in run if not ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file()]


def test_git_ignores_what_the_commands_write_into_a_clone():
    written = {"adapter"}  # the default of examples/train.py
    for page in (*PAGES, ROOT / "examples" / "README.md"):
        text = re.sub(r"\\\n\s*", "", page.read_text())
        written |= set(re.findall(r"(?:--out|mkdir -p|cat >) ([\w.-]+)", text))
    for script in SCRIPTS:
        source = ROOT.joinpath("examples", *script.split(".")).with_suffix(".py").read_text()
        written |= set(re.findall(r'"([a-z]+-out)"', source))
    assert {"videos", "mine", "runs", "clips.csv", "captions.csv", "predictions"} < written
    assert {"quickstart-out", "ablation-out", "accelerate-out", "lightning-out"} < written
    names = [f"{name}/" if "." not in name else name for name in sorted(written)]
    ignored = subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True, check=False)
    if ignored.returncode == 128:
        pytest.skip("this is not a clone")
    assert ignored.stdout.split() == names
