"""The prediction script: its table, its strips and its errors."""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import vilt_prompt
from examples import predict
from examples.startup import command_line
from examples.video import decoding, strip
from examples.video.sampling import sample_frames
from tests.support import video_sets

CLASSES = ["juggling", "golfing", "riding a bike"]


@pytest.fixture
def script(monkeypatch):
    """Runs the script in this process."""

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
        command_line.run_script(predict.main)

    return run


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An untrained adapter that names its base."""
    torch.manual_seed(0)
    clip, _, _ = open_clip.create_model_and_transforms(video_sets.MODEL)
    folder = tmp_path_factory.mktemp("adapter")
    vilt_prompt.wrap(clip, n_ctx=4, base_model=video_sets.MODEL).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(["a/one.mp4", "b/one.avi", "b/two.mp4"]):
        video_sets.write_video(folder / name, video_sets.COLOURS[number], frames=3 + 4 * number)
    video_sets.damage(folder / "b" / "two.mp4")
    return folder


def test_a_folder_of_videos(script, adapter, videos, tmp_path, capsys):
    names = tmp_path / "names.txt"
    video_sets.write_lines(names, [CLASSES[0], "", *CLASSES[1:]])
    out = tmp_path / "out"
    script(videos, "--adapter", adapter, "--class-file", names, "--out", out, "--frames", 4)
    shown = capsys.readouterr()
    assert "two.mp4 cannot be decoded as a video" in shown.err
    assert f"Wrote {out / 'probabilities.csv'}, and the frames of 2 of 3 videos beside it." in shown.out
    assert sorted(file.name for file in out.glob("*.png")) == ["0001 one.png", "0002 one.png"]
    with (out / "probabilities.csv").open(newline="") as lines:
        header, *rows = list(csv.reader(lines))
    assert header == ["video", *CLASSES]
    clip, _, preprocess = open_clip.create_model_and_transforms(video_sets.MODEL)
    model = vilt_prompt.from_pretrained(clip, adapter)
    paths = [videos / "a" / "one.mp4", videos / "b" / "one.avi"]
    assert [row[0] for row in rows] == [str(path) for path in paths]
    for path, row in zip(paths, rows, strict=True):
        pictures = decoding.read_frames(path, lambda total: sample_frames(total, 4))
        with torch.no_grad():
            features = model.encode_video(torch.stack([preprocess(f) for f in pictures]).unsqueeze(0), normalize=True)
            classes = model.encode_text(open_clip.get_tokenizer(video_sets.MODEL)(CLASSES), normalize=True)
        expected = (features @ classes.T / 0.07).softmax(-1)[0]
        torch.testing.assert_close(torch.tensor([float(p) for p in row[1:]]), expected)
        best = int(expected.argmax())
        assert f"{path.name}  {CLASSES[best]} {float(expected[best]):.0%}" in shown.out


def test_a_folder_with_odd_names(script, adapter, tmp_path, monkeypatch):
    """What cannot be opened is left out, as what cannot be decoded is; a class file may come from an editor."""
    folder, out = tmp_path / "videos", tmp_path / "out"
    names = ["été 走る.mp4", f"{'x' * 251}.mp4", *([os.fsdecode(b"caf\xe9.mp4")] if sys.platform == "linux" else [])]
    (folder / "folder.mp4").mkdir(parents=True)
    (folder / "link.mp4").symlink_to("nowhere")
    for name in names:
        video_sets.write_video(tmp_path / "one.mp4", video_sets.COLOURS[0]).rename(folder / name)
    (tmp_path / "names.txt").write_bytes("\ufeffrunning\r\n\r\nwalking\r\n".encode())
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    script(folder, "--adapter", adapter, "--class-file", tmp_path / "names.txt", "--out", out)
    assert len(list(out.glob("*.png"))) == len(names)
    table = (out / "probabilities.csv").read_bytes()
    assert table.startswith(b"video,running,walking\r\n")
    assert all(os.fsencode(name) in table for name in names)


def test_one_video_on_a_given_model(script, adapter, videos, tmp_path, capsys):
    file = videos / "b" / "one.avi"
    script(file, "--adapter", adapter, "--classes", *CLASSES, "--out", tmp_path, "--model", video_sets.MODEL)
    assert capsys.readouterr().out.startswith("one.avi  ")
    assert (tmp_path / "0001 one.png").is_file()


@pytest.mark.parametrize(
    ("options", "loaded"),
    [
        ([], "ViT-B-16 laion2b_s34b_b88k"),
        (["--pretrained", "mine.pt"], "ViT-B-16 mine.pt"),
        (["--model", "ViT-L-14"], "ViT-L-14 None"),
        (["--model", "ViT-L-14", "--pretrained", "mine.pt"], "ViT-L-14 mine.pt"),
    ],
)
def test_options_go_before_what_the_adapter_names(tmp_path, monkeypatch, options, loaded):
    def load_clip(name, pretrained, device):
        raise ValueError(f"{name} {pretrained}")

    clip, _, _ = open_clip.create_model_and_transforms(video_sets.MODEL)
    model = vilt_prompt.wrap(clip, n_ctx=4, base_model="ViT-B-16", base_pretrained="laion2b_s34b_b88k")
    model.save_pretrained(str(tmp_path))
    monkeypatch.setattr(predict, "load_clip", load_clip)
    monkeypatch.setattr(sys, "argv", ["predict.py", "a.mp4", "--classes", "a", "--adapter", str(tmp_path), *options])
    with pytest.raises(ValueError, match=f"^{loaded}$"):
        predict.load_model(predict.arguments(), torch.device("cpu"))


def test_an_adapter_of_the_hub(script, hub, videos, tmp_path):
    file = videos / "a" / "one.mp4"
    torch.manual_seed(0)
    clip, _, _ = open_clip.create_model_and_transforms(video_sets.MODEL)
    model = vilt_prompt.wrap(clip, n_ctx=4, base_model=video_sets.MODEL)
    model.push_to_hub("me/prompts", token="writer")
    model.save_pretrained(str(tmp_path / "adapter"))
    for out, source in (("hub", "me/prompts"), ("disk", tmp_path / "adapter")):
        script(file, "--adapter", source, "--classes", *CLASSES, "--out", tmp_path / out)
    tables = [(tmp_path / out / "probabilities.csv").read_text() for out in ("hub", "disk")]
    assert tables[0] == tables[1]
    with pytest.raises(SystemExit, match="^predict.py: error: .*me/nothing") as ended:
        script(file, "--adapter", "me/nothing", "--classes", *CLASSES, "--out", tmp_path)
    assert "\n" not in str(ended.value)


def test_a_strip_shows_the_frames_in_order_and_the_lines(tmp_path):
    pictures = [Image.new("RGB", (40, 20), colour) for colour in video_sets.COLOURS[:5] * 2]
    strip.draw_strip(tmp_path / "strip.png", pictures, ["a line"])
    drawn = np.asarray(Image.open(tmp_path / "strip.png"))
    width = 2 * strip.HEIGHT
    assert drawn.shape == (2 * (strip.HEIGHT + strip.GAP) + strip.LINE, 8 * (width + strip.GAP) - strip.GAP, 3)
    for number, colour in enumerate(video_sets.COLOURS[:5] * 2):
        row, column = divmod(number, 8)
        middle = drawn[row * (strip.HEIGHT + strip.GAP) + 80, column * (width + strip.GAP) + width // 2]
        assert tuple(middle.tolist()) == colour
    assert (drawn[-strip.LINE :] < 100).any()  # ink
    strip.draw_strip(tmp_path / "long.png", pictures[:1], ["a line that is far longer than one frame is wide " * 3])
    assert (np.asarray(Image.open(tmp_path / "long.png"))[:, -20 - 2 * strip.GAP :] < 100).any()  # nothing is cut off


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.mp4", "--classes", "a"], "there is no video or folder nowhere.mp4"),
        (["bare", "--classes", "a"], "bare holds no videos, whose names end in .mp4, .avi"),
        (["bare", "--class-file", "nowhere.txt"], "No such file or directory: 'nowhere.txt'"),
        (["bare", "--class-file", "empty.txt"], "empty.txt holds no class names: write one a line"),
        (["bad.mp4", "--classes", "a", "--frames", "0"], "--frames must be at least 1, got 0"),
        (["bare", "--class-file", "latin.txt"], "latin.txt is not a text in UTF-8"),
        (["bad.mp4", "--classes", "a", "--temperature", "0"], "--temperature must be positive and finite, got 0.0"),
        (["bad.mp4", "--classes", "a", "--device", "gpu"], "--device gpu cannot be used: .*; choose cpu, or cuda"),
        (["bad.mp4", "--classes", "a"], "none of the 1 videos can be decoded"),
        (
            ["bad.mp4", "--classes", "a", "--adapter", "nameless"],
            "the adapter nameless does not name its open_clip model",
        ),
        (["bad.mp4", "--classes", "a", "--adapter", "bare"], "adapter_config.json"),
        (
            ["bad.mp4", "--classes", "a", "--model", "local-dir:nowhere"],
            "nowhere is not a folder of an open_clip model",
        ),
    ],
)
def test_what_is_wrong_is_one_clear_line(script, adapter, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("bare").mkdir()
    Path("empty.txt").write_text("\n")
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("bad.mp4").write_bytes(b"no video")
    Path("nameless").mkdir()
    for file in adapter.iterdir():
        text = file.read_bytes()
        if file.name == "adapter_config.json":
            text = text.replace(f'"base_model": "{video_sets.MODEL}"'.encode(), b'"base_model": null')
        (Path("nameless") / file.name).write_bytes(text)
    with pytest.raises(SystemExit, match=f"^predict.py: error: .*{message}") as ended:
        script("--adapter", adapter, *arguments)
    assert "\n" not in str(ended.value)
