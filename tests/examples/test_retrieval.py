"""The retrieval script: every data set's files, its loss, its metrics and its errors."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import open_clip
import pytest
import torch

import vilt_prompt
from examples.data import clips
from examples.paper import retrieval
from examples.startup import command_line
from examples.video import decoding
from examples.video.sampling import sample_frames
from tests.support import video_sets

QUICK = ["--model", video_sets.MODEL, "--device", "cpu", "--workers", "0", "--frames", "2", "--batch", "4"]


@pytest.fixture
def script(monkeypatch):
    """Runs the script in this process."""

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["retrieval.py", *map(str, arguments)])
        command_line.run_script(retrieval.main)

    return run


def metrics(out: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((out / "results.json").read_text())["metrics"]
    return found


@pytest.mark.parametrize("layout", [video_sets.msrvtt, video_sets.msvd, video_sets.lsmdc, video_sets.didemo])
def test_every_data_set(script, tmp_path, layout):
    videos, annotations = layout(tmp_path)
    out = tmp_path / "out"
    script("--videos", videos, "--annotations", annotations, *QUICK, "--epochs", 1, "--out", out)
    results = metrics(out)
    kinds = ["R@1", "R@5", "R@10", "median rank", "mean rank"]
    assert list(results) == [f"{way} {kind}" for way in ("text to video", "video to text") for kind in kinds]
    assert results["text to video R@5"] == 100  # no test has more than three videos
    config = json.loads((out / "last" / "adapter_config.json").read_text())
    assert (config["n_ctx"], config["depth"], config["K"]) == (6, 12, 6)


def test_captions_find_the_clips_that_they_were_trained_on(script, tmp_path):
    actions = ["bowing", "facepalming", "frowning", "pouting", "running", "shrugging", "standing", "walking"]
    own = [clip for clip in clips.read_manifest(video_sets.EXAMPLES / "data") if not clip.has_alpha]
    own = [clip for clip in own if clip.label in actions and clip.person == "woman"]
    videos = tmp_path / "videos"
    videos.mkdir()
    for clip in own:
        (videos / clip.file.name).symlink_to(clip.file)
    video_sets.damage(video_sets.write_video(videos / "damaged.mp4", (0, 0, 0)))
    pairs = [(clip.file.name, f"someone is {clip.label}") for clip in own] + [("damaged.mp4", "someone is damaged")]
    table = [(*pair, split) for pair in pairs for split in ("train", "test")]
    annotations = video_sets.write_csv(tmp_path / "mine.csv", ["video", "caption", "split"], table)
    data = ["--videos", videos, "--annotations", annotations]
    script(*data, *QUICK, "--batch", 9, "--epochs", 10, "--test-every", 10, "--out", tmp_path / "out")
    with (tmp_path / "out" / "train.csv").open(newline="") as lines:
        losses = [float(row["loss"]) for row in csv.DictReader(lines)]
    assert sum(losses[-2:]) < 0.6 * sum(losses[:2])
    results = metrics(tmp_path / "out")
    assert results["text to video R@1"] == results["video to text R@1"] == 100
    assert (tmp_path / "out" / "skipped.txt").read_text().count("\n") == 1
    script(*data, *QUICK, "--adapter", tmp_path / "out" / "last", "--out", tmp_path / "again")
    assert metrics(tmp_path / "again") == results
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    listed, found, decoded = 9, 9, 8
    counts = {"listed": listed, "found": found, "decoded": decoded, "captions": found}
    assert record["videos"]["train"] == counts | {"from": record["videos"]["train"]["from"]}
    assert record["videos"]["test"] == counts | {"tested": decoded, "from": record["videos"]["test"]["from"]}
    assert "text to video R@1 of 8 of 9 videos" in (tmp_path / "out" / "log.txt").read_text()


def test_metrics_against_the_model(script, tmp_path):
    videos, annotations = video_sets.msvd(tmp_path)
    long = "a man runs " * 30  # far beyond the 40 positions of the text tower
    (annotations / "video_corpus.csv").write_text(
        (annotations / "video_corpus.csv").read_text().replace("2 a man runs", f"2 {long}")
    )
    data = ["--videos", videos, "--annotations", annotations, "--test-every", 1, "--out", tmp_path / "out"]
    script(*data, *QUICK, "--epochs", 1)
    clip, _, preprocess = open_clip.create_model_and_transforms(video_sets.MODEL)
    model = vilt_prompt.from_pretrained(clip, tmp_path / "out" / "last")
    tokenizer = open_clip.get_tokenizer(video_sets.MODEL)
    texts = [f"{n} {text}" for n in (2, 3) for text in ("a man runs", 'he says "hi", then runs')]
    texts[0] = f"2 {long}"
    frames = [
        decoding.read_frames(videos / f"-id{n}_{n}_{n + 5}.avi", lambda total: sample_frames(total, 2)) for n in (2, 3)
    ]
    with torch.no_grad():
        video_features = model.encode_video(torch.stack([torch.stack([preprocess(f) for f in own]) for own in frames]))
        text_features = model.encode_text(tokenizer(texts, context_length=40 - 6))
    similarity = torch.nn.functional.cosine_similarity(text_features.unsqueeze(1), video_features, dim=-1).tolist()
    text_ranks = [1 + (row[1 - own] >= row[own]) for row, own in zip(similarity, (0, 0, 1, 1), strict=True)]
    video_ranks = []
    for own in (0, 1):
        best = max(similarity[2 * own][own], similarity[2 * own + 1][own])
        video_ranks.append(1 + sum(similarity[2 * (1 - own) + n][own] >= best for n in (0, 1)))
    results = metrics(tmp_path / "out")
    assert results["text to video mean rank"] == pytest.approx(sum(text_ranks) / 4)
    assert results["video to text mean rank"] == pytest.approx(sum(video_ranks) / 2)
    assert results["text to video R@1"] == 100 * text_ranks.count(1) / 4


def test_the_frozen_model_stands_beside_the_result(script, tmp_path, capsys):
    videos, annotations = video_sets.msvd(tmp_path)
    data = ["--videos", videos, "--annotations", annotations, *QUICK]
    script(*data, "--epochs", 1, "--evaluate-before", "--out", tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    script(*data, "--epochs", 0, "--out", tmp_path / "frozen")
    assert metrics(tmp_path / "frozen") == results["frozen"]
    assert not (tmp_path / "frozen" / "last").exists()
    clip, _, preprocess = open_clip.create_model_and_transforms(video_sets.MODEL)
    texts = [f"{n} {text}" for n in (2, 3) for text in ("a man runs", 'he says "hi", then runs')]
    tokens = open_clip.get_tokenizer(video_sets.MODEL)(texts)
    own = []
    for n in (2, 3):
        pictures = decoding.read_frames(videos / f"-id{n}_{n}_{n + 5}.avi", lambda total: sample_frames(total, 2))
        own.append(torch.stack([preprocess(picture) for picture in pictures]))
    with torch.no_grad():
        frames = torch.stack([clip.encode_image(pictures).mean(0) for pictures in own])
        similarity = (
            torch.nn.functional.normalize(clip.encode_text(tokens), dim=-1)
            @ torch.nn.functional.normalize(frames, dim=-1).T
        )
    right = [int(row.argmax()) == number // 2 for number, row in enumerate(similarity)]
    assert results["frozen"]["text to video R@1"] == 25 * sum(right)
    assert "before the training: text to video R@1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--videos", "nowhere", "--annotations", "lists"], "there is no folder of videos nowhere"),
        (["--videos", "videos", "--annotations", "nowhere"], "there are no annotations nowhere"),
        (["--videos", "videos", "--annotations", "videos"], "videos holds no annotations that are known: MSR-VTT"),
        (["--videos", "lists", "--annotations", "lists"], "none of the 7 videos is in lists, such as video0.mp4"),
    ],
)
def test_what_is_wrong_is_one_clear_line(script, tmp_path, monkeypatch, arguments, message):
    _, annotations = video_sets.msrvtt(tmp_path)
    annotations.rename(tmp_path / "lists")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"^retrieval.py: error: {message}") as ended:
        script(*QUICK, "--out", "out", *arguments)
    assert "\n" not in str(ended.value)
    assert not Path("out").exists()
