"""Options that both training scripts have: the paper's values, temperature, weight of the frozen model, adapters."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F

import vilt_prompt
from examples import predict
from examples.paper import recognition, retrieval
from examples.paper.lists.label_files import LabelledVideo
from examples.paper.tasks import Task
from examples.paper.training.batches import ONE_VIEW
from examples.paper.training.options import compared_with_paper
from examples.paper.training.phases import PROMPTED
from examples.paper.training.setup import plan
from examples.startup import command_line
from examples.video import decoding
from examples.video.sampling import sample_frames
from tests.support import video_sets

QUICK = ["--model", video_sets.MODEL, "--device", "cpu", "--workers", "0", "--frames", "2", "--batch", "4"]


def options(*arguments: object) -> argparse.Namespace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["recognition.py", *map(str, arguments)])
        return recognition.arguments()


def compared(args: argparse.Namespace) -> list[str]:
    setting = args.setting
    paper, others, defaults = recognition.PAPER[setting], recognition.others(setting), recognition.defaults(setting)
    return compared_with_paper(args, paper, others, defaults)


@pytest.mark.parametrize(
    ("setting", "paper", "rest"),
    [
        (
            "few-shot",
            "method vilt, weight-decay 0.001, temperature 0.07, views 1x1, n-ctx 10, depth all, K 6, epochs 30, "
            "lr 0.008, frames 32",
            "batch 64 (base-to-novel's), alpha 8.0 (KgCoOp's)",
        ),
        (
            "base-to-novel",
            "method vilt, weight-decay 0.001, temperature 0.07, views 1x1, n-ctx 16, depth 10, K 6, epochs 12, "
            "batch 64, lr 0.04, frames 32",
            "alpha 8.0 (KgCoOp's)",
        ),
        (
            "supervised",
            "method vilt, weight-decay 0.001, temperature 0.07, views 4x3, n-ctx 10, depth all, K 6, frames 16",
            "batch 64 (base-to-novel's), epochs 30 (few-shot's), lr 0.008 (few-shot's), alpha 8.0 (KgCoOp's)",
        ),
    ],
)
def test_defaults_are_said_to_be_the_papers_or_not(setting: str, paper: str, rest: str) -> None:
    args = options(setting, "--out", "x")
    lines = compared(args)
    assert lines == [f"as in the paper: {paper}", f"not given in the paper: {rest}"]


def test_what_differs_from_the_paper_is_said() -> None:
    args = options("few-shot", "--out", "x", "--epochs", 5, "--temperature", "model", "--depth", 3)
    lines = compared(args)
    changed = "temperature model (paper: 0.07), depth 3 (paper: all), epochs 5 (paper: 30)"
    assert lines[1] == f"not as in the paper: {changed}"
    assert "epochs" not in lines[0]
    assert lines[2] == "not given in the paper: batch 64 (base-to-novel's), alpha 8.0 (KgCoOp's)"
    args = options("few-shot", "--out", "x", "--batch", 8, "--alpha", 0)
    assert compared(args)[-1] == "not given in the paper: batch 8 (yours), alpha 0.0 (yours)"


@pytest.mark.parametrize(
    ("weight", "temperature"), [(0.0, "0.07"), (0.3, "0.2"), (1.0, "model"), (0.0, "model")], ids=str
)
def test_scores_against_open_clip(
    weight: float, temperature: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probabilities of two videos, from cosines of a model without prompts and of one with them."""
    args = options("few-shot", "--out", "x", *QUICK, "--frozen-weight", weight, "--temperature", temperature)
    files = [video_sets.write_video(tmp_path / f"{n}.mp4", video_sets.COLOURS[n]) for n in range(2)]
    names = ["running", "riding a bike", "juggling"]
    clip, _, preprocess = open_clip.create_model_and_transforms(video_sets.MODEL)
    tokenizer = open_clip.get_tokenizer(video_sets.MODEL)
    pictures = [decoding.read_frames(file, lambda total: sample_frames(total, 2)) for file in files]
    frames = torch.stack([preprocess(picture) for video in pictures for picture in video])

    def cosines(texts: list[str]) -> torch.Tensor:
        features = clip.encode_image(frames).unflatten(0, (2, 2)).mean(1)
        return F.normalize(features, dim=-1) @ F.normalize(clip.encode_text(tokenizer(texts)), dim=-1).T

    torch.manual_seed(0)
    with torch.no_grad():
        frozen = cosines([f"a video of a person doing {name}." for name in names])
        model = vilt_prompt.wrap(clip, n_ctx=2)  # from here on `clip` has prompts
        prompted = cosines(names)
    tau = 1 / clip.logit_scale.exp().item() if temperature == "model" else float(temperature)
    expected = ((weight * frozen + (1 - weight) * prompted) / tau).softmax(-1)
    recognizer = recognition.Recognizer(model, tokenizer, preprocess, args, plan(args, torch.device("cpu")), None)
    none = [0] * len(names)
    task = Task("test", [LabelledVideo(file, 0, "") for file in files], names, none, none, {})
    monkeypatch.setattr(recognition, "report", lambda batch, run: None)  # there is no folder of a run
    numbers, probabilities = recognizer.probabilities(task, ONE_VIEW, [PROMPTED])
    assert numbers == [0, 1]
    torch.testing.assert_close(probabilities[PROMPTED], expected, atol=1e-5, rtol=1e-4)


def script(module: object, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["script.py", *map(str, arguments)])
        command_line.run_script(module.main)  # type: ignore[attr-defined]

    return run


def test_from_training_to_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A run is tested and used by the name of its folder, with its own frames and temperature."""
    videos, annotations = video_sets.ucf101(tmp_path / "ucf101")
    own = ["few-shot", "--videos", videos, "--annotations", annotations, *QUICK, "--shots", 4]
    run = script(recognition, monkeypatch)
    run(*own, "--epochs", 2, "--temperature", 0.1, "--micro-batch", 3, "--out", tmp_path / "run")
    said = capsys.readouterr().out
    assert "not as in the paper: temperature 0.1 (paper: 0.07), epochs 2 (paper: 30), frames 2 (paper: 32)" in said
    settings = json.loads((tmp_path / "run" / "best" / "training.json").read_text())
    assert (settings["frames"], settings["temperature"], settings["epochs"]) == (2, 0.1, 2)
    for name in ("best", "last"):
        card = (tmp_path / "run" / name / "README.md").read_text()
        assert "- apply eye makeup\n- yo yo\n- archery" in card
        assert vilt_prompt.TEMPLATE in card
    before = (tmp_path / "run" / "predictions-test.csv").read_text()

    for folder in videos.iterdir():  # Only the test videos are left.
        for file in folder.glob("*_g0[89]_*"):
            file.unlink()
    run(*own, "--adapter", tmp_path / "run", "--temperature", 0.1, "--out", tmp_path / "again")
    assert f"the adapter is {tmp_path / 'run' / 'best'}" in capsys.readouterr().err
    assert (tmp_path / "again" / "predictions-test.csv").read_text() == before

    names = ["ApplyEyeMakeup", "YoYo", "Archery"]
    script(predict, monkeypatch)(videos, "--adapter", tmp_path / "run", "--classes", *names, "--out", tmp_path / "use")
    assert "frames: 2 (as in training)\ntemperature: 0.1 (as in training)" in capsys.readouterr().err
    probabilities = {}
    for line in (tmp_path / "use" / "probabilities.csv").read_text().splitlines()[1:]:
        video, *row = line.split(",")
        probabilities[video] = max(map(float, row))
    for line in before.splitlines()[1:]:
        video, _, _, probability = line.split(",")
        assert probabilities[video] == pytest.approx(float(probability), abs=1e-4)

    script(predict, monkeypatch)(videos, "--adapter", tmp_path / "run", "--out", tmp_path / "recorded")
    assert "the classes are the 3 of the training\n" in capsys.readouterr().err
    given, recorded = ((tmp_path / out / "probabilities.csv").read_text() for out in ("use", "recorded"))
    assert recorded.splitlines()[0] == "video,apply eye makeup,yo yo,archery"
    assert recorded.splitlines()[1:] == given.splitlines()[1:]


def test_retrieval_tests_an_adapter_without_training_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    videos, annotations = video_sets.msrvtt(tmp_path)
    run = script(retrieval, monkeypatch)
    own = ["--videos", videos, "--annotations", annotations, *QUICK]
    run(*own, "--epochs", 1, "--out", tmp_path / "run")
    assert "not given in the paper: depth None (few-shot recognition's)" not in capsys.readouterr().out
    results = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    for number in range(4):
        (videos / f"video{number}.mp4").unlink()
    (annotations / "MSRVTT_train.9k.csv").unlink()
    shutil.rmtree(tmp_path / "run" / "best")
    run(*own, "--adapter", tmp_path / "run", "--out", tmp_path / "again")
    assert f"the adapter is {tmp_path / 'run' / 'last'}" in capsys.readouterr().err
    assert json.loads((tmp_path / "again" / "results.json").read_text())["metrics"] == results
