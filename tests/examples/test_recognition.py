"""The recognition script: every setting and layout on tiny videos, restarts bit for bit, and its errors."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file

import vilt_prompt
from examples.data import clips
from examples.paper import recognition
from examples.paper.tasks import Task, read_tasks
from examples.paper.training import run_folder
from examples.startup import command_line
from examples.video import decoding
from examples.video.sampling import crop_boxes, frame_views, sample_frames
from tests.support import video_sets

QUICK = ["--model", video_sets.MODEL, "--device", "cpu", "--workers", "0", "--frames", "2", "--batch", "4"]


@pytest.fixture
def script(monkeypatch):
    """Run the script in this process. An error in its input ends it with one line, as on the command line."""

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["recognition.py", *map(str, arguments)])
        command_line.run_script(recognition.main)

    return run


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory):
    videos, annotations = video_sets.ucf101(tmp_path_factory.mktemp("ucf101"))
    return ["--videos", videos, "--annotations", annotations]


@pytest.fixture(scope="module")
def hmdb51(tmp_path_factory):
    videos, annotations = video_sets.hmdb51(tmp_path_factory.mktemp("hmdb51"))
    return ["--videos", videos, "--annotations", annotations]


def rows(file: Path) -> list[list[str]]:
    with file.open(newline="") as lines:
        return list(csv.reader(lines))[1:]


def adapter(out: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(out / name / "adapter_model.safetensors")


def metrics(out: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((out / "results.json").read_text())["metrics"]
    return found


def results_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_few_shot_learns(script, tmp_path, capsys):
    own = [clip for clip in clips.read_manifest(video_sets.EXAMPLES / "data") if not clip.has_alpha]
    own = [clip for clip in own if clip.label in ("bowing", "facepalming", "frowning", "pouting")]
    table = [(clip.file.name, clip.label, "test" if clip.person == "person" else "train") for clip in own]
    annotations = video_sets.write_csv(tmp_path / "mine.csv", ["video", "label", "split"], table)
    data = ["--videos", video_sets.EXAMPLES / "data" / "mp4", "--annotations", annotations, "--shots", 2]
    out = tmp_path / "out"
    script("few-shot", *data, *QUICK, "--out", out, "--batch", 8, "--epochs", 10, "--test-every", 5, "--alpha", 0)
    shown = capsys.readouterr()
    assert "8 videos of 4 classes to train on" in shown.out
    assert "training: 100%" in shown.err
    training = rows(out / "train.csv")
    losses = [float(row[3]) for row in training]
    assert sum(losses[-2:]) < 0.5 * sum(losses[:2])
    for step, row in enumerate(training):
        assert float(row[2]) == pytest.approx(8e-3 * (1 + math.cos(math.pi * step / 10)) / 2)
    assert [row[0] for row in rows(out / "test.csv")] == ["5", "10"]
    predictions = rows(out / "predictions-test.csv")
    assert [row[1] for row in predictions] == [label for _, label, split in table if split == "test"]
    results = metrics(out)
    right = sum(row[1] == row[2] for row in predictions)
    assert results == {"test top-1": 100 * right / 4}
    assert right >= 2
    # Both adapters load again, and the last epoch's has the score that the script printed.
    assert adapter(out, "best").keys() == adapter(out).keys()
    data[-1] = 16  # nothing is drawn, so that there are not as many does not matter
    script("few-shot", *data, *QUICK, "--adapter", out / "last", "--out", tmp_path / "again")
    assert metrics(tmp_path / "again") == results
    assert not (tmp_path / "again" / "train.csv").exists()


def test_shots_are_grouped_and_nested_on_request(ucf101, monkeypatch):
    def shots(count: int, *more: object) -> list[str]:
        arguments = ["few-shot", *ucf101, "--out", "x", "--shots", count, *more]
        monkeypatch.setattr(sys, "argv", ["recognition.py", *map(str, arguments)])
        train, _ = read_tasks(recognition.arguments())
        return [video.path.stem.partition("_")[2] for video in train.videos]

    for seed in range(5):
        groups = [name.partition("_c")[0] for name in shots(2, "--groups", "--seed", seed)]
        assert len(set(groups)) == 6  # both groups of each of three classes
        draws = [set(shots(count, "--nested", "--seed", seed)) for count in (1, 2, 3, 4)]
        assert all(few < more for few, more in pairwise(draws))
    assert any(len({name.partition("_c")[0] for name in shots(2, "--seed", seed)}) < 6 for seed in range(5))
    assert shots(2, "--seed", 1) != shots(2, "--seed", 2)


def test_missing_videos_do_not_move_classes_between_base_and_novel(tmp_path, monkeypatch):
    videos, annotations = video_sets.hmdb51(tmp_path)

    def split() -> list[list[str]]:
        arguments = ["--videos", str(videos), "--annotations", str(annotations), "--shots", "1", "--out", "x"]
        monkeypatch.setattr(sys, "argv", ["recognition.py", "base-to-novel", *arguments])
        train, tests = read_tasks(recognition.arguments())
        assert train.classes == tests[0].classes
        return [task.classes for task in tests]

    before = split()
    assert before == [["brush hair", "wave"], ["climb", "dive"]]
    for clip in (2, 3):
        (videos / "wave" / f"April_0{clip}_wave_u_nm_np1_ba_goo_{clip}.avi").unlink()
    assert split() == before


def test_targets_of_one_name_are_told_apart(ucf101, tmp_path, monkeypatch):
    for name in ("one", "two"):
        video_sets.folders(tmp_path / name / "videos", classes=1, train=0, test=1)
    monkeypatch.chdir(tmp_path)
    video_sets.write_csv(tmp_path / "other.csv", ["video", "label", "split"], [["0.mp4", "running", "test"]])

    def names(*targets: list[str]) -> list[str]:
        options = [option for target in targets for option in ("--target", *target)]
        monkeypatch.setattr(sys, "argv", ["recognition.py", "zero-shot", *options, "--adapter", "any", "--out", "x"])
        train, tests = read_tasks(recognition.arguments())
        assert train is None
        return [task.name for task in tests]

    one, two = ["one/videos"] * 2, ["two/videos"] * 2
    assert names(one, two) == ["one-videos", "two-videos"]
    absolute = "-".join(tmp_path.relative_to(tmp_path.anchor).parts)
    assert names(*([str(tmp_path / path) for path in target] for target in (one, two))) == [
        f"{absolute}-one-videos",
        f"{absolute}-two-videos",
    ]
    assert names(one, ["one/videos", "other.csv"]) == ["one-videos-one-videos", "one-videos-other.csv"]
    with pytest.raises(ValueError, match="a --target is given twice"):
        names(one, two, one)
    monkeypatch.chdir("one/videos")
    assert names([".", "."]) == ["videos"]


def test_base_to_novel(script, hmdb51, tmp_path):
    script("base-to-novel", *hmdb51, *QUICK, "--out", tmp_path, "--shots", 2, "--epochs", 1)
    results = metrics(tmp_path)
    assert list(results) == ["base top-1", "novel top-1", "harmonic mean"]
    # "wave" has most videos; of the three others, equally frequent, the first is base, too.
    assert {row[1] for row in rows(tmp_path / "predictions-base.csv")} == {"brush hair", "wave"}
    assert {row[1] for row in rows(tmp_path / "predictions-novel.csv")} == {"climb", "dive"}
    assert {row[2] for row in rows(tmp_path / "predictions-novel.csv")} <= {"climb", "dive"}
    config = json.loads((tmp_path / "last" / "adapter_config.json").read_text())
    assert (config["n_ctx"], config["depth"], config["K"]) == (16, 10, 6)
    # The file itself holds a path relative to the adapter, where there is one.
    assert vilt_prompt.PromptConfig.from_pretrained(tmp_path / "last").base_model == video_sets.MODEL
    assert config["class_names"] == ["brush hair", "wave"]
    assert config["template"] == vilt_prompt.TEMPLATE


@pytest.mark.slow
def test_supervised_on_several_views(script, tmp_path):
    videos, annotations = video_sets.kinetics(tmp_path)
    out = tmp_path / "out"
    data = ["--videos", videos, "--annotations", annotations]
    script("supervised", *data, *QUICK, "--out", out, "--epochs", 1, "--views", "2x3", "--precision", "bf16")
    script("supervised", *data, *QUICK, "--out", tmp_path / "fp32", "--views", "2x3", "--adapter", out / "last")
    clip, _, preprocess = open_clip.create_model_and_transforms(video_sets.MODEL)
    model = vilt_prompt.from_pretrained(clip, out / "last")
    tokens = open_clip.get_tokenizer(video_sets.MODEL)(["air drumming", "playing tv games"])
    with torch.no_grad():
        classes = model.encode_text(tokens, normalize=True)
        for path, _, predicted, probability in rows(tmp_path / "fp32" / "predictions-test.csv"):
            total = torch.zeros(2)
            for numbers in frame_views(5, 2, 2):
                pictures = decoding.read_frames(Path(path), lambda _, numbers=numbers: numbers)
                for box in crop_boxes(80, 64, 3):
                    clip_view = torch.stack([preprocess(picture.crop(box)) for picture in pictures])
                    features = model.encode_video(clip_view.unsqueeze(0), normalize=True)
                    total += (features @ classes.T / 0.07).softmax(-1)[0] / 6
            assert predicted == ["air drumming", "playing tv games"][int(total.argmax())]
            assert float(probability) == pytest.approx(total.max().item(), abs=2e-4)


def test_zero_shot_on_other_data_sets(script, ucf101, hmdb51, tmp_path):
    source = video_sets.folders(tmp_path / "source", test=0)
    targets = ["--target", ucf101[1], ucf101[3], "--target", hmdb51[1], hmdb51[3]]
    script("zero-shot", "--videos", source, *targets, *QUICK, "--out", tmp_path / "out", "--epochs", 1)
    results = metrics(tmp_path / "out")
    splits = [f"{name} split {n} top-1" for name in ("UCF-101", "hmdb51") for n in (1, 2, 3)]
    assert list(results) == [*splits, "UCF-101 mean top-1", "hmdb51 mean top-1"]
    for name in ("UCF-101", "hmdb51"):
        mean = sum(results[f"{name} split {n} top-1"] for n in (1, 2, 3)) / 3
        assert results[f"{name} mean top-1"] == pytest.approx(mean)
    again = ["zero-shot", "--videos", source, *targets, *QUICK, "--out", tmp_path / "out", "--epochs", 1, "--resume"]
    script(*again)
    assert metrics(tmp_path / "out") == results
    # The adapter alone is enough for further data sets.
    again = [*targets[:3], *QUICK, "--adapter", tmp_path / "out" / "last", "--out", tmp_path / "again"]
    script("zero-shot", *again)
    assert metrics(tmp_path / "again").items() <= results.items()


def test_ssv2_and_other_prompts(script, tmp_path):
    videos, annotations = video_sets.ssv2(tmp_path)
    data = ["--videos", videos, "--annotations", annotations, "--shots", 2, "--epochs", 1, "--stride", 1, "--flip"]
    script(
        "few-shot", *data, *QUICK, "--method", "maple", "--n-ctx", 2, "--grad-checkpointing", "--out", tmp_path / "out"
    )
    config = json.loads((tmp_path / "out" / "last" / "adapter_config.json").read_text())
    assert (config["method"], config["n_ctx"], config["lead"]) == ("maple", 2, "text")
    assert len(rows(tmp_path / "out" / "predictions-test.csv")) == 2


# --- lists that others published ----------------------------------------------------------------------------------


def options(*arguments: object) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["recognition.py", *map(str, arguments), "--out", "x"])
        return recognition.arguments()


def stems(task: Task) -> list[tuple[str, str]]:
    return [(video.path.stem, task.classes[video.label]) for video in task.videos]


@pytest.fixture
def listed(tmp_path):
    """Videos of four classes, and lists of two shots and of base and novel classes, numbered as ViFi-CLIP does."""
    names = ["run", "brush hair", "jump", "climb"]
    for number, name in enumerate(names):
        for clip in range(5):
            video_sets.write_video(
                tmp_path / "videos" / f"{name.replace(' ', '_')}_{clip}.avi", video_sets.COLOURS[number]
            )

    def write(file: str, classes: list[str], clips: range) -> None:
        lines = [f"{n.replace(' ', '_')}_{clip}.avi {classes.index(n)}" for n in classes for clip in clips]
        video_sets.write_lines(tmp_path / file, lines)

    write("shots/train1_few_shot_2.txt", names, range(2))
    write("shots/train1_few_shot_3.txt", names, range(3))
    write("shots/val1.txt", names, range(3, 5))
    write("shots/val3.txt", names, range(4, 5))
    write("novel/base_val.txt", names[:2], range(3, 5))
    write("novel/novel_val.txt", names[2:], range(3, 5))
    for draw in (1, 2, 3):
        write(f"novel/fs_base_s{draw}_train.txt", names[:2], range(draw - 1, draw + 1))
    for file, own in (("all", names), ("base", names[:2]), ("novel", names[2:])):
        video_sets.write_csv(tmp_path / "labels" / f"{file}.csv", ["id", "name"], list(enumerate(own)))
    return tmp_path


def test_few_shot_lists_are_used_as_they_are(listed, capsys):
    own = ["few-shot", "--videos", listed / "videos", "--annotations", listed / "shots"]
    names = ["--names", listed / "labels" / "all.csv"]
    train, tests = read_tasks(options(*own, *names, "--shots", 2))
    expected = [(f"{n.replace(' ', '_')}_{clip}", n) for n in ("run", "brush hair", "jump", "climb") for clip in (0, 1)]
    assert stems(train) == expected
    assert stems(tests[0])[:3] == [("run_3", "run"), ("run_4", "run"), ("brush_hair_3", "brush hair")]
    assert (
        "few_shot_2.txt is used as it is, nothing is drawn: 2 training videos of each class" in capsys.readouterr().out
    )
    lists = ["--train-list", listed / "shots/train1_few_shot_3.txt", "--test-list", listed / "shots/val1.txt"]
    train, _ = read_tasks(options(*own[:3], *lists, *names))
    assert len(train.videos) == 12
    assert "3 training videos of each class" in capsys.readouterr().out
    drawn, _ = read_tasks(options(*own[:3], *lists, *names, "--shots", 2))
    assert len(drawn.videos) == 8
    with pytest.raises(ValueError, match="the classes are numbers, such as 0 of run_0.avi .*--names FILE"):
        read_tasks(options(*own, "--shots", 2))
    with pytest.raises(ValueError, match="--train-list and --test-list belong together"):
        read_tasks(options(*own[:3], *lists[:2], *names))


@pytest.mark.parametrize("seed", [0, 2])
def test_base_and_novel_lists_are_used_as_they_are(listed, seed):
    own = ["base-to-novel", "--videos", listed / "videos", "--annotations", listed / "novel", "--seed", seed]
    names = ["--names", listed / "labels" / "base.csv", "--novel-names", listed / "labels" / "novel.csv"]
    train, (base, novel) = read_tasks(options(*own, *names))
    clips = (seed, seed + 1)
    assert stems(train) == [(f"{n.replace(' ', '_')}_{clip}", n) for n in ("run", "brush hair") for clip in clips]
    assert stems(base) == [(f"{n.replace(' ', '_')}_{clip}", n) for n in ("run", "brush hair") for clip in (3, 4)]
    assert stems(novel) == [(f"{n}_{clip}", n) for n in ("jump", "climb") for clip in (3, 4)]
    assert (base.name, novel.name) == ("base", "novel")
    folder = listed / "novel"
    lists = ["--train-list", folder / f"fs_base_s{seed + 1}_train.txt", "--test-list", folder / "base_val.txt"]
    lists += ["--novel-list", folder / "novel_val.txt"]
    assert read_tasks(options(*own[:3], *lists, *names)) == (train, [base, novel])
    with pytest.raises(ValueError, match="numbered apart: say what they are called with --names FILE and --novel"):
        read_tasks(options(*own, *names[:2]))
    with pytest.raises(ValueError, match="--novel-list needs the lists of the base classes: add --train-list and"):
        read_tasks(options(*own[:3], *lists[4:], *names))


def test_targets_are_tested_on_the_splits_that_are_there(listed, capsys, monkeypatch):
    target = ["--target", listed / "videos", listed / "shots", listed / "labels" / "all.csv"]
    for name in ("run_0.avi", "run_1.avi"):
        (listed / "videos" / name).unlink()  # a training video, which this test does not use
    _, tests = read_tasks(options("zero-shot", *target, "--adapter", "any"))
    assert [task.name for task in tests] == ["videos split 1", "videos split 3"]
    assert [len(task.videos) for task in tests] == [8, 4]
    assert capsys.readouterr().out == "videos: tested on split 1, 3\n"
    one = ["--target", listed / "videos", listed / "shots" / "val3.txt", listed / "labels" / "all.csv"]
    (test,) = read_tasks(options("zero-shot", *one, "--adapter", "any"))[1]
    assert (test.name, len(test.videos)) == ("videos", 4)
    with pytest.raises(ValueError, match=r"--target takes VIDEOS ANNOTATIONS \[NAMES\], got "):
        read_tasks(options("zero-shot", *target[:2], "--adapter", "any"))


def test_an_adapter_is_tested_without_training_videos(listed, tmp_path):
    for file in (listed / "videos").glob("*_[012].avi"):
        file.unlink()
    own = ["few-shot", "--videos", listed / "videos", "--adapter", "any", "--names", listed / "labels" / "all.csv"]
    train, tests = read_tasks(options(*own, "--annotations", listed / "shots"))
    assert train is None
    assert len(tests[0].videos) == 8
    train, tests = read_tasks(options(*own, "--test-list", listed / "shots" / "val3.txt"))
    assert len(tests[0].videos) == 4


def test_suspicious_rows_are_printed(listed, capsys):
    table = [("run_0.avi", "run", "train"), ("run_0.avi", "run", "test"), ("run_1.avi", "run", "tset")]
    mine = video_sets.write_csv(listed / "mine.csv", ["video", "label", "split"], table)
    read_tasks(options("supervised", "--videos", listed / "videos", "--annotations", mine))
    assert capsys.readouterr().out.splitlines() == [
        "1 rows of an unknown split are left out: run_1.avi ('tset', mine.csv, row 3)",
        "1 videos are in training and test: run_0.avi",
    ]


# --- results that compare -----------------------------------------------------------------------------------------


def test_results_hold_everything_that_they_depend_on(script, uninterrupted, damaged):
    results = json.loads((uninterrupted / "results.json").read_text())
    train, test = results["videos"]["train"], results["videos"]["test"]
    names = ("listed", "found", "used", "decoded")
    assert [train[name] for name in names] == [12, 12, 12, 10]
    assert [test[name] for name in (*names, "tested")] == [3, 3, 3, 2, 2]
    assert list(train["classes"]["yo yo"].values()) == [4, 4, 4, 2]
    assert test["classes"]["archery"] == {"listed": 1, "found": 1, "used": 1, "decoded": 0, "tested": 0}
    assert test["from"] == {
        "videos": str(damaged[1]),
        "annotations": str(damaged[3]),
        "names": None,
        "split": "test",
    }
    assert results["options"]["split"] == 1
    assert results["options"]["shots"] == 4
    assert results["options"]["lr"] == 8e-3
    assert results["seed"] == 0
    assert results["decoder"] == decoding.decoder()
    assert results["versions"]["torch"] == torch.__version__
    assert results["machine"]["processes"] == 1
    assert results["machine"]["cores"] == os.cpu_count()
    assert results["metrics"].keys() == results["frozen"].keys() == {"test top-1"}


def test_a_log_says_what_was_printed(uninterrupted):
    lines = (uninterrupted / "log.txt").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    said = [line[20:] for line in lines]
    assert (
        sum(line.startswith(("command: ", "options: ", "versions: ", "machine: ", "decoder: ")) for line in said) == 5
    )
    assert "12 videos of 3 classes to train on" in said
    assert sum(line.startswith("skipped: ") for line in said) == 3
    assert sum(line.startswith("epoch ") and "test top-1" in line for line in said) == 3
    (result,) = (line for line in said if line.startswith("test top-1"))
    assert re.fullmatch(r"test top-1 of 2 of 3 videos +\d+\.\d\d  \(frozen model \d+\.\d\d\)", result)


def frozen_top1(table: Path, names: list[str], frames: int) -> float:
    """Of the bare model, with the hand-crafted prompt."""
    clip, _, preprocess = open_clip.create_model_and_transforms(video_sets.MODEL)
    texts = open_clip.get_tokenizer(video_sets.MODEL)([f"a video of a person doing {name}." for name in names])
    right = []
    with torch.no_grad():
        classes = clip.encode_text(texts, normalize=True)
        for path, label, *_ in rows(table):
            pictures = decoding.read_frames(Path(path), lambda total: sample_frames(total, frames))
            video = clip.encode_image(torch.stack([preprocess(picture) for picture in pictures])).mean(0)
            right.append(names[int((classes @ video).argmax())] == label)
    return 100 * sum(right) / len(right)


def test_the_frozen_model_stands_beside_every_result(script, ucf101, tmp_path, capsys):
    names = ["apply eye makeup", "yo yo", "archery"]
    run = ["few-shot", *ucf101, *QUICK, "--shots", 1, "--epochs", 1]
    script(*run, "--out", tmp_path / "after")
    expected = frozen_top1(tmp_path / "after" / "predictions-test.csv", names, 2)
    results = json.loads((tmp_path / "after" / "results.json").read_text())
    assert results["frozen"] == {"test top-1": pytest.approx(expected)}
    assert f"(frozen model {expected:.2f})" in capsys.readouterr().out
    script(*run, "--evaluate-before", "--out", tmp_path / "before")
    shown = capsys.readouterr().out
    assert shown.index(f"before the training: test top-1 {expected:.2f}") < shown.index(
        "3 videos of 3 classes to train"
    )
    again = json.loads((tmp_path / "before" / "results.json").read_text())
    assert (again["metrics"], again["frozen"]) == (results["metrics"], results["frozen"])
    script(*run[:-1], 0, "--out", tmp_path / "frozen")
    alone = json.loads((tmp_path / "frozen" / "results.json").read_text())
    assert alone["metrics"] == alone["frozen"] == results["frozen"]
    assert not (tmp_path / "frozen" / "last").exists()
    assert list(alone["videos"]) == ["test"]


def test_the_frozen_model_needs_no_training_videos(script, tmp_path):
    videos, annotations = video_sets.ucf101(tmp_path)
    for file in videos.rglob("*_g0[89]_*"):
        file.unlink()
    data = ["--videos", videos, "--annotations", annotations, "--epochs", 0]
    script("few-shot", *data, *QUICK, "--out", tmp_path / "out", "--views", "2x1")
    assert list(metrics(tmp_path / "out")) == ["test top-1"]


# --- after a kill -------------------------------------------------------------------------------------------------

LONG = ["--shots", 4, "--batch", 2, "--epochs", 3, "--save-every", 4, "--test-every", 1]


@pytest.fixture(scope="module")
def damaged(ucf101, tmp_path_factory):
    """As `ucf101`, but two videos of training and one of the tests are damaged."""
    videos, annotations = video_sets.ucf101(tmp_path_factory.mktemp("damaged"))
    for name in ("YoYo/v_YoYo_g08_c01.avi", "Archery/v_Archery_g01_c01.avi"):
        video_sets.damage(videos / name)
    (videos / "YoYo" / "v_YoYo_g09_c02.avi").write_bytes(b"")
    return ["--videos", videos, "--annotations", annotations]


@pytest.fixture(scope="module")
def uninterrupted(damaged, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["recognition.py", *map(str, ["few-shot", *damaged, *QUICK, *LONG, "--out", out])])
        recognition.main()
    return out


def assert_same_run(out: Path, uninterrupted: Path) -> None:
    for name in ("last", "best"):
        assert same(adapter(out, name), adapter(uninterrupted, name))
    for table in ("train.csv", "test.csv", "predictions-test.csv"):
        assert (out / table).read_text() == (uninterrupted / table).read_text(), table
    results = [json.loads((folder / "results.json").read_text()) for folder in (out, uninterrupted)]
    for own in results:
        for name in ("out", "resume", "workers"):
            del own["options"][name]
    assert results[0] == results[1]
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (out, uninterrupted)]
    for one, other in zip(*(state["optimizer"]["state"].values() for state in states), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_kill_9_and_resume_is_bit_for_bit_as_without(script, damaged, uninterrupted, tmp_path):
    out = tmp_path / "out"
    arguments = [str(value) for value in ["few-shot", *damaged, *QUICK, *LONG, "--workers", 1, "--out", out]]
    command = [sys.executable, "-m", "examples.paper.recognition", *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        table = out / "train.csv"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if table.is_file() and table.read_text().count("\n") > 8:  # In the second of three epochs.
                break
            time.sleep(0.005)
        assert process.poll() is None, (tmp_path / "output").read_text()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = torch.load(out / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < before < 18
    script("few-shot", *damaged, *QUICK, *LONG, "--out", out, "--resume")
    assert_same_run(out, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 6, 11])
def test_resume_after_any_step(script, damaged, uninterrupted, tmp_path, monkeypatch, stop):
    log = run_folder.RunFolder.log

    def stopping(self, table, step, values):
        log(self, table, step, values)
        if step == stop and table == "train":
            raise MemoryError

    monkeypatch.setattr(run_folder.RunFolder, "log", stopping)
    with pytest.raises(MemoryError):
        script("few-shot", *damaged, *QUICK, *LONG, "--out", tmp_path)
    monkeypatch.setattr(run_folder.RunFolder, "log", log)
    torch.manual_seed(12345)
    (tmp_path / "checkpoint.pt.new").write_bytes(b"cut short")
    script("few-shot", *damaged, *QUICK, *LONG, "--out", tmp_path, "--resume")
    assert_same_run(tmp_path, uninterrupted)


def test_a_finished_run_is_resumed_by_its_test_alone(script, damaged, uninterrupted, capsys):
    results = (uninterrupted / "results.json").read_text()
    script("few-shot", *damaged, *QUICK, *LONG, "--out", uninterrupted, "--resume")
    resumed = (uninterrupted / "results.json").read_text().replace('"resume": true', '"resume": false')
    assert resumed == results
    log = (uninterrupted / "log.txt").read_text()
    assert log.count(" command: ") == 2  # One log for the run, whatever happened to it.
    assert len(rows(uninterrupted / "train.csv")) == 18


def test_tensorboard_gets_what_the_tables_get_where_it_is_installed(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            written.append("flushed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    run = run_folder.RunFolder(tmp_path, {"seed": 0}, resume=False)
    run.log("train", 1, {"loss": 2.5})
    run.save({"step": 1})
    run_folder.RunFolder(tmp_path, {"seed": 0}, resume=True)
    assert written == [(str(tmp_path), None), ("train/loss", 2.5, 1), "flushed", (str(tmp_path), 2)]
    assert (tmp_path / "train.csv").read_text().split() == ["step,loss", "1,2.5"]


def test_damaged_videos_are_reported_once(uninterrupted):
    lines = (uninterrupted / "skipped.txt").read_text().splitlines()
    assert sorted(Path(line.split(" cannot be decoded")[0]).name for line in lines) == [
        "v_Archery_g01_c01.avi",
        "v_YoYo_g08_c01.avi",
        "v_YoYo_g09_c02.avi",
    ]
    assert [Path(row[0]).name for row in rows(uninterrupted / "predictions-test.csv")] == [
        "v_ApplyEyeMakeup_g01_c01.avi",
        "v_YoYo_g01_c01.avi",
    ]


def test_several_processes_report_a_damaged_video_once(tmp_path):
    one, two = (run_folder.RunFolder(tmp_path, {}, resume=True) for _ in range(2))
    assert one.unreported(["a cannot", "a cannot", "b cannot"]) == ["a cannot", "b cannot"]
    assert two.unreported(["b cannot", "c cannot"]) == ["c cannot"]
    assert one.unreported(["a cannot", "c cannot"]) == []
    assert (tmp_path / "skipped.txt").read_text().splitlines() == ["a cannot", "b cannot", "c cannot"]


@pytest.mark.parametrize("written", ["", "step,loss\r\n", "step,loss\r\n1,2.5\r\n2,1.", "step,loss\r\n1,2.5\r\n2"])
def test_tables_are_cut_back_wherever_a_kill_cut_them(tmp_path, written):
    (tmp_path / "train.csv").write_bytes(written.encode())
    run = run_folder.RunFolder(tmp_path, {}, resume=True)
    run.rewind("train", 1)
    if "1,2.5" not in written:
        run.log("train", 1, {"loss": 2.5})
    run.log("train", 2, {"loss": 1.5})
    assert (tmp_path / "train.csv").read_bytes() == b"step,loss\r\n1,2.5\r\n2,1.5\r\n"
    assert [file.name for file in tmp_path.iterdir()] == ["train.csv"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names of files are text")
def test_names_of_files_in_no_encoding(script, tmp_path, monkeypatch):
    root = video_sets.folders(tmp_path / "set")
    for part, name in (
        ("train/action_0", b"caf\xe9.mp4"),
        ("val/action_0", b"th\xe9.mp4"),
        ("val/action_1", b"\xe9.mp4"),
    ):
        os.rename(root / part / "1.mp4", os.path.join(os.fsencode(root / part), name))
    video_sets.damage(root / "val" / "action_1" / os.fsdecode(b"\xe9.mp4"))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    script("few-shot", "--videos", root, *QUICK, "--shots", 2, "--epochs", 1, "--out", tmp_path / "out")
    assert b"th\xe9.mp4," in (tmp_path / "out" / "predictions-test.csv").read_bytes()
    assert b"\xe9.mp4 cannot be decoded" in (tmp_path / "out" / "skipped.txt").read_bytes()


def test_another_run_is_not_mixed_in(script, damaged, uninterrupted):
    again = ["few-shot", *damaged, *QUICK, *LONG, "--out", uninterrupted]
    with pytest.raises(SystemExit, match="holds a run already: add --resume to go on with it, or choose another --out"):
        script(*again)
    with pytest.raises(SystemExit, match="holds a run with --weight-decay 0.001, not 0.1"):
        script(*again, "--resume", "--weight-decay", 0.1)


def test_a_run_does_not_go_on_with_other_videos(script, tmp_path):
    root = video_sets.folders(tmp_path / "set", train=3)
    run = ["few-shot", "--videos", root, *QUICK, "--shots", 2, "--epochs", 1, "--out", tmp_path / "out", "--resume"]
    script(*run)
    for file in (root / "train" / "action_0").glob("*.mp4"):
        file.rename(file.with_stem(f"new_{file.stem}"))
    with pytest.raises(SystemExit, match="out holds a run on other videos: put those back, or choose another --out"):
        script(*run)


def test_a_run_moves_to_other_storage(script, tmp_path, monkeypatch):
    root = video_sets.folders(tmp_path / "set", train=3)
    run = [*QUICK, "--shots", 2, "--epochs", 1, "--resume"]
    script("few-shot", "--videos", root, *run, "--out", tmp_path / "out")
    results = metrics(tmp_path / "out")
    shutil.move(root, tmp_path / "elsewhere")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    script("few-shot", "--videos", "elsewhere", *run, "--out", "moved")
    assert metrics(tmp_path / "moved") == results
    video_sets.write_video(next((tmp_path / "elsewhere" / "train").rglob("0.mp4")), (1, 2, 3), frames=9)
    with pytest.raises(SystemExit, match="moved holds a run on other videos: put those back"):
        script("few-shot", "--videos", "elsewhere", *run, "--out", "moved")


def test_a_moved_run_still_counts_the_videos_that_it_skipped(script, tmp_path):
    root = video_sets.folders(tmp_path / "set", train=3)
    video_sets.damage(next((root / "train").rglob("0.mp4")))
    run = [*QUICK, "--epochs", 1, "--resume"]
    script("supervised", "--videos", root, *run, "--out", tmp_path / "out", "--views", "1x1")
    counted = results_of(tmp_path / "out")["videos"]["train"]
    assert counted["decoded"] == counted["found"] - 1
    shutil.move(root, tmp_path / "elsewhere")
    script("supervised", "--videos", tmp_path / "elsewhere", *run, "--out", tmp_path / "out", "--views", "1x1")
    assert results_of(tmp_path / "out")["videos"]["train"]["decoded"] == counted["decoded"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("0", "train")],
            "mine.csv names no videos to test on: give some the split test, or name a list .*--test-list",
        ),
        ([("0", "test")], "mine.csv names no videos to train on: give some the split train, or name .*--train-list"),
        (
            [("0", "train"), ("8", "test"), ("9", "test")],
            "all 2 videos that .*mine.csv names to test on are missing in ",
        ),
    ],
)
def test_the_cause_is_said_where_there_is_nothing_to_train_or_test_on(rows, message, script, tmp_path):
    root = video_sets.folders(tmp_path / "set")
    table = [(f"train/action_0/{number}.mp4", "run", split) for number, split in rows]
    mine = video_sets.write_csv(tmp_path / "mine.csv", ["video", "label", "split"], table)
    with pytest.raises(SystemExit, match=message):
        script("supervised", "--videos", root, "--annotations", mine, *QUICK, "--out", tmp_path / "out")


def test_names_of_skipped_videos_are_compared_below_their_folder(tmp_path):
    run = run_folder.RunFolder(tmp_path / "run", {}, resume=False)
    run.unreported([f"old/set/{name} cannot be decoded as a video: it is empty" for name in ("a/0.mp4", "b/10.mp4")])
    paths = [tmp_path / "new" / name for name in ("a/0.mp4", "b/0.mp4", "b/10.mp4", "0.mp4")]
    assert run.failed(tmp_path / "new", paths) == {paths[0], paths[2]}


def test_a_file_is_no_folder_of_a_run(script, ucf101, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"--out .*file is a file: give a folder, new or of a run to go on with"):
        script("few-shot", *ucf101, *QUICK, "--shots", 2, "--out", tmp_path / "file")


def test_a_damaged_checkpoint_is_named(script, ucf101, tmp_path):
    for content in (b"", b"not a checkpoint"):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(SystemExit, match=r"checkpoint.pt is damaged: remove it to train from the start"):
            script("few-shot", *ucf101, *QUICK, "--shots", 2, "--out", tmp_path, "--resume")


# --- several processes, presets, errors ---------------------------------------------------------------------------


def test_presets_are_the_papers(monkeypatch):
    def preset(setting: str, *more: str) -> dict[str, object]:
        monkeypatch.setattr(sys, "argv", ["recognition.py", setting, "--out", "x", *more])
        return vars(recognition.arguments())

    common = {"weight_decay": 1e-3, "temperature": 0.07, "alpha": 8.0, "K": 6, "method": "vilt"}
    few_shot = {"n_ctx": 10, "depth": None, "epochs": 30, "lr": 8e-3, "frames": 32, "views": "1x1", "shots": 16}
    assert (common | few_shot).items() <= preset("few-shot").items()
    novel = {"n_ctx": 16, "depth": 10, "epochs": 12, "batch": 64, "lr": 4e-2, "frames": 32, "views": "1x1", "shots": 16}
    assert (common | novel).items() <= preset("base-to-novel").items()
    # The paper's ten layers belong to its own method.
    assert preset("base-to-novel", "--method", "coop")["depth"] is None
    assert preset("base-to-novel", "--method", "coop", "--depth", "3")["depth"] == 3
    assert (common | {"n_ctx": 10, "depth": None, "frames": 16, "views": "4x3"}).items() <= preset("supervised").items()
    assert (common | {"frames": 32, "views": "1x1"}).items() <= preset("zero-shot", "--target", "a", "b").items()


def test_help_shows_one_default_for_each_option(monkeypatch, capsys):
    for setting, depth in (("few-shot", "all"), ("base-to-novel", "10")):
        monkeypatch.setattr(sys, "argv", ["recognition.py", setting, "--help"])
        with pytest.raises(SystemExit):
            recognition.arguments()
        options = " ".join(capsys.readouterr().out.split())
        assert (
            f"layers with prompts of their own (default: {depth} for vilt, for other methods their own depth) --K"
            in options
        )
        assert not re.search(r"\(default: [^)]*\) \(default", options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--videos", "nowhere"], "there is no folder of videos nowhere"),
        (["--videos", "bare"], "bare is empty"),
        (["--videos", "hollow"], "hollow names no videos"),
        ([], "--videos is needed: the folder of the videos"),
        (["--videos", "set", "--shots", "9"], "'action 0' has 2 training videos, fewer than --shots 9"),
        (
            ["--videos", "set", "--shots", "2", "--device", "gpu"],
            "--device gpu cannot be used: .*; choose cpu, or cuda",
        ),
        (["--videos", "set", "--shots", "2", "--stride", "0"], "--stride must be at least 1, got 0"),
        (["--videos", "set", "--shots", "2", "--workers", "-1"], "--workers must be at least 0, got -1"),
        (["--videos", "set", "--shots", "2", "--batch", "0"], "--batch must be at least 1, got 0"),
        (
            ["--videos", "set", "--shots", "2", "--views", "4"],
            "--views must be temporal x spatial, such as 4x3, got '4'",
        ),
        (["--videos", "set", "--shots", "2", "--model", "ViT-B-17"], "open_clip has no model 'ViT-B-17'"),
        (["--videos", "set", "--shots", "2", "--model", "ViT-B-16"], "ViT-B-16 needs --pretrained, a file or one of"),
        (
            ["--videos", "set", "--shots", "2", "--model", "local-dir:nowhere"],
            "nowhere is not a folder of an open_clip model",
        ),
        (["--videos", "set", "--shots", "2", "--K", "99"], "expected K in 1..*, got 99"),
        (["--videos", "set", "--shots", "2", "--adapter", "nowhere"], "nowhere"),
        (["--videos", "broken", "--shots", "2"], "4 videos in a row cannot be decoded: .*mp4 cannot be decoded"),
    ],
)
def test_what_is_wrong_is_one_clear_line(script, sets, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(sets)
    with pytest.raises(SystemExit, match=f"^recognition.py: error: .*{message}") as ended:
        script("few-shot", *QUICK, "--out", tmp_path, *arguments)
    assert "\n" not in str(ended.value)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    (root / "bare").mkdir()
    (root / "hollow" / "train" / "action").mkdir(parents=True)
    video_sets.folders(root / "set", test=1)
    for file in video_sets.folders(root / "broken").rglob("*.mp4"):
        video_sets.damage(file)
    return root
