"""Two processes train and test as one does."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from examples.paper import recognition, retrieval
from tests.support import video_sets

QUICK = ["--model", video_sets.MODEL, "--device", "cpu", "--workers", "0", "--frames", "2"]


def losses(out: Path) -> list[float]:
    with (out / "train.csv").open(newline="") as lines:
        return [float(row["loss"]) for row in csv.DictReader(lines)]


@pytest.mark.slow
def test_two_processes_are_one(tmp_path, monkeypatch):
    videos, annotations = video_sets.ucf101(tmp_path / "ucf101")
    labels = ["few-shot", "--videos", videos, "--annotations", annotations, "--shots", 4, "--batch", 4, "--epochs", 1]
    videos, annotations = video_sets.msrvtt(tmp_path / "msrvtt")
    captions = ["--videos", videos, "--annotations", annotations, "--batch", 4, "--epochs", 1]
    arguments = [[*map(str, own), *QUICK] for own in (labels, captions)]
    names = ("untrained", "one", "two")
    outs = {name: [str(tmp_path / name / script) for script in ("recognition", "retrieval")] for name in names}
    for name, lr in (("untrained", "0"), ("one", "1e-3")):
        for script, own, out in zip((recognition, retrieval), arguments, outs[name], strict=True):
            monkeypatch.setattr(sys, "argv", [script.__name__, *own, "--lr", lr, "--out", out])
            script.main()
    arguments = [[*own, "--lr", "1e-3"] for own in arguments]
    # The two compute their videos one by one, and the second script also their frames: that changes nothing either.
    small, smaller = ["--micro-batch", "1"], ["--micro-batch", "1", "--frames-per-chunk", "1"]
    both = [*arguments[0], *small, "--out", outs["two"][0], "--", *arguments[1], *smaller, "--out", outs["two"][1]]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.support.both_scripts", *both]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for folders in zip(*(map(Path, outs[name]) for name in names), strict=True):
        untrained, one, two = (load_file(out / "last" / "adapter_model.safetensors") for out in folders)
        assert losses(folders[2]) == pytest.approx(losses(folders[1]), rel=1e-3)
        for name, before in untrained.items():
            # AdamW makes whole steps of gradients that are little more than rounding errors: compare lengths.
            assert (two[name] - one[name]).norm() < 0.02 * (one[name] - before).norm(), name
        results = [json.loads((folder / "results.json").read_text()) for folder in folders[1:]]
        assert results[1]["metrics"] == results[0]["metrics"]
        assert results[1]["frozen"] == results[0]["frozen"]
        assert results[1]["videos"] == results[0]["videos"]
        assert [result["machine"]["processes"] for result in results] == [1, 2]
    predictions = [
        (Path(out) / "predictions-test.csv").read_text().count("\n") for out in (outs["one"][0], outs["two"][0])
    ]
    assert predictions == [4, 4]
