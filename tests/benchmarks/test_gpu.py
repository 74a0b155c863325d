"""The script for a GPU runs from end to end on a CPU, with a tiny model."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu, measure, models


@pytest.mark.slow
def test_all_tables(tmp_path):
    out = tmp_path / "gpu.md"
    options = [
        "--device",
        "cpu",
        "--model",
        "tiny",
        "--labels",
        "hmdb51",
        "--frames",
        "2",
        "--rounds",
        "1",
        "--backend",
        "eager",
    ]
    gpu.main([*options, "--precision", "fp32", "--out", str(out)])
    text = out.read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in text.splitlines() if line.startswith("| ")}
    assert {"fp32", "bf16", "fp16"} <= rows.keys()
    assert "exceeded" not in text
    assert "labels must be in 0..2, got 9..10" in text
    for measured in ("encode_text, hmdb51", "step, hmdb51, 2 frames", "encode_video, 2 frames"):
        assert [line for line in text.splitlines() if measured in line and "| library |" in line]
    assert "which fits 11 GB" in text


class BenchWithoutModel:
    sizes = models.sizes("tiny")

    def subject(self, name, case, inputs, memory):
        return name

    def gradients(self):
        return torch.ones(2)


def test_a_difference_that_is_nan_exceeds_the_bound(monkeypatch):
    def run(subject, case):
        is_bad = subject == "library" and case.measure == "image"
        return None, torch.tensor([1.0, float("nan") if is_bad else 2.0])

    monkeypatch.setattr(measure, "run", run)
    rows = list(gpu.exactness(BenchWithoutModel(), "tiny", "cpu", "hmdb51"))[2:]
    assert len(rows) == 3
    assert all("| nan |" in row and row.endswith("**exceeded** |") for row in rows)


def test_a_table_that_fails_leaves_the_others(tmp_path, monkeypatch):
    out = tmp_path / "gpu.md"

    def fails(*arguments):
        yield "| fp32 |"
        raise RuntimeError("out of memory\nand more")

    def works(*arguments):
        assert "| fp32 |" in out.read_text(encoding="utf-8")
        yield "measured"

    monkeypatch.setattr(gpu, "exactness", fails)
    for name in ("late_refusals", "times", "long_video"):
        monkeypatch.setattr(gpu, name, works)
    with pytest.raises(SystemExit, match="failed: Exactness"):
        gpu.main(["--device", "cpu", "--model", "tiny", "--labels", "hmdb51", "--out", str(out)])
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines.index("| fp32 |") < lines.index("**Failed:** RuntimeError: out of memory") < lines.index("measured")
    assert lines.count("measured") == 4


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "torch finds no CUDA device here: --device cpu --model tiny tries the script" in capsys.readouterr().err
