"""The script for a GPU runs from end to end on a CPU, with a tiny model."""

from __future__ import annotations

import pytest

from benchmarks import gpu


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


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "torch finds no CUDA device here: --device cpu --model tiny tries the script" in capsys.readouterr().err
