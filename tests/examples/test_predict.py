"""The prediction script: its table, its strips and its errors."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image

import vilt_prompt
from examples import predict
from examples.startup import command_line, trained
from examples.video import decoding, fonts, strip
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


def with_base(adapter: Path, folder: Path, base_model: str | None) -> None:
    """Copies an adapter, whose base then has another name, or none."""
    shutil.copytree(adapter, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model": base_model}))


def probabilities(out: Path) -> tuple[list[str], torch.Tensor]:
    """The classes of a table, and its numbers."""
    with (out / "probabilities.csv").open(newline="") as lines:
        header, *rows = list(csv.reader(lines))
    return header[1:], torch.tensor([[float(p) for p in row[1:]] for row in rows])


def test_a_folder_of_videos(script, adapter, videos, tmp_path, capsys):
    names = tmp_path / "names.txt"
    video_sets.write_lines(names, [CLASSES[0], "", *CLASSES[1:]])
    out = tmp_path / "out"
    script(videos, "--adapter", adapter, "--class-file", names, "--out", out, "--frames", 4)
    shown = capsys.readouterr()
    assert "two.mp4 cannot be decoded as a video" in shown.err
    assert f"Classified 2 of 3 videos. Wrote {out / 'probabilities.csv'} and a picture of each in" in shown.out
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
        expected = (features @ classes.T * model.logit_scale.exp().item()).softmax(-1)[0]
        torch.testing.assert_close(torch.tensor([float(p) for p in row[1:]]), expected)
        best = int(expected.argmax())
        assert f"{path.name}  {CLASSES[best]} {float(expected[best]):.0%}" in shown.out


def test_a_video_that_is_used_in_part_is_named(script, adapter, videos, tmp_path, monkeypatch, capsys):
    read = predict.read_video
    monkeypatch.setattr(predict, "read_video", lambda *given: read(*given)._replace(damage="one.mp4 is damaged: a bit"))
    script(videos / "a", "--adapter", adapter, "--classes", "a", "b", "--out", tmp_path / "out")
    assert "used without its damaged part: one.mp4 is damaged: a bit\n" in capsys.readouterr().err


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
    args = predict.arguments()
    config = vilt_prompt.PromptConfig.from_pretrained(args.adapter)
    with pytest.raises(ValueError, match=f"^{loaded}$"):
        predict.load_model(args, config, torch.device("cpu"))


def test_an_adapter_of_the_hub(script, hub, videos, tmp_path, capsys):
    file = videos / "a" / "one.mp4"
    torch.manual_seed(0)
    clip, _, _ = open_clip.create_model_and_transforms(video_sets.MODEL)
    model = vilt_prompt.wrap(clip, n_ctx=4, base_model=video_sets.MODEL)
    model.push_to_hub("me/prompts", token="writer")
    model.save_pretrained(str(tmp_path / "adapter"))
    classes = ["--classes", *CLASSES]
    # A pushed adapter does not record the path of a local base.
    with pytest.raises(SystemExit, match="the folder emoji-vit-12x128, which is not here: .* --model local-dir:FOLDER"):
        script(file, "--adapter", "me/prompts", *classes, "--out", tmp_path / "hub")
    script(file, "--adapter", "me/prompts", *classes, "--out", tmp_path / "hub", "--model", video_sets.MODEL)
    script(file, "--adapter", tmp_path / "adapter", *classes, "--out", tmp_path / "disk")
    tables = [(tmp_path / out / "probabilities.csv").read_text() for out in ("hub", "disk")]
    assert tables[0] == tables[1]
    said = capsys.readouterr().err
    assert "frames: 8 (default: not found in training.json)\n" in said
    assert "temperature: the model's own (default: not found in training.json)\n" in said

    # A folder that is uploaded as it is, as by `hf upload`, keeps the options of its training.
    trained.save_settings(tmp_path / "adapter", {"frames": 3, "temperature": 1})
    HfApi(token="writer").create_repo("me/folder")
    HfApi(token="writer").upload_folder(repo_id="me/folder", folder_path=tmp_path / "adapter")
    script(file, "--adapter", "me/folder", *classes, "--out", tmp_path / "hub", "--model", video_sets.MODEL)
    assert "frames: 3 (as in training)\ntemperature: 1 (as in training)\n" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="^predict.py: error: .*me/nothing") as ended:
        script(file, "--adapter", "me/nothing", "--classes", *CLASSES, "--out", tmp_path)
    assert "\n" not in str(ended.value)


@pytest.mark.parametrize("form", ["words", "numbers.csv", "classInd.txt", "names.json", "options"])
def test_names_are_cleaned_as_in_training(form, script, adapter, videos, tmp_path):
    """`BrushHair` is shown as it was given, and read as "brush hair", in every form that the lists may have."""
    files = {
        "words": "BrushHair\nriding_a_bike\n",
        "numbers.csv": "id,name\n1,riding_a_bike\n0,BrushHair\n",
        "classInd.txt": "1 BrushHair\n2 riding_a_bike\n",
        "names.json": '{"BrushHair": 0, "riding_a_bike": 1}',
    }
    source = ["--classes", "BrushHair", "riding_a_bike"]
    if form in files:
        (tmp_path / form).write_text(files[form])
        source = ["--class-file", tmp_path / form]
    video = videos / "a" / "one.mp4"
    script(video, "--adapter", adapter, *source, "--out", tmp_path / "given")
    script(video, "--adapter", adapter, "--classes", "brush hair", "riding a bike", "--out", tmp_path / "plain")
    given, plain = probabilities(tmp_path / "given"), probabilities(tmp_path / "plain")
    assert given[0] == ["BrushHair", "riding_a_bike"]
    assert torch.equal(given[1], plain[1])


@pytest.mark.parametrize("kept", ["best", "last"])
def test_a_run_has_its_adapter_frames_and_temperature(kept, script, adapter, videos, tmp_path, capsys):
    run, video = tmp_path / "run", videos / "b" / "one.avi"
    shutil.copytree(adapter, run / kept)
    trained.save_settings(run / kept, {"frames": 3, "temperature": 0.5})
    base = ["--model", video_sets.MODEL]  # a copied adapter does not know where it is
    script(video, "--adapter", run, *base, "--classes", *CLASSES, "--out", tmp_path / "run-out")
    said = capsys.readouterr().err
    assert f"the adapter is {run / kept}\n" in said
    assert "frames: 3 (as in training)\ntemperature: 0.5 (as in training)\n" in said
    options = ["--frames", 3, "--temperature", 0.5, "--out", tmp_path / "out"]
    script(video, "--adapter", adapter, "--classes", *CLASSES, *options)
    assert torch.equal(probabilities(tmp_path / "run-out")[1], probabilities(tmp_path / "out")[1])
    script(video, "--adapter", run, *base, "--classes", *CLASSES, "--out", tmp_path / "model", "--temperature", "model")
    assert not torch.allclose(probabilities(tmp_path / "model")[1], probabilities(tmp_path / "out")[1])


def test_the_best_adapter_goes_before_the_last(adapter, tmp_path):
    for name in ("best", "last"):
        shutil.copytree(adapter, tmp_path / name)
    assert trained.find_adapter(str(tmp_path)) == str(tmp_path / "best")
    assert trained.find_adapter(str(tmp_path / "last")) == str(tmp_path / "last")
    assert trained.find_adapter("someone/adapter") == "someone/adapter"


def test_damaged_settings_are_named(tmp_path):
    for text in ("{", "[3]"):
        (tmp_path / "training.json").write_text(text)
        with pytest.raises(ValueError, match=r"training.json is damaged: "):
            trained.training_settings(str(tmp_path))


def test_settings_of_a_repository_that_is_gone_are_empty(hub):
    assert trained.training_settings("me/nothing") == {}


def test_settings_on_the_hub_are_empty_without_a_connection(monkeypatch):
    def offline(*arguments):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(trained, "hf_hub_download", offline)
    assert trained.training_settings("me/folder") == {}


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"frames": 0}, r"run has frames 0: set it with --frames"),
        ({"frames": "8"}, r"run has frames '8': set it with --frames"),
        ({"temperature": -1.0}, r"run has temperature -1.0: set it with --temperature"),
        ({"temperature": [1]}, r"run has temperature \[1\]: set it with --temperature"),
    ],
)
def test_impossible_settings_are_one_line(settings, error, script, adapter, videos, tmp_path):
    shutil.copytree(adapter, tmp_path / "run")
    trained.save_settings(tmp_path / "run", settings)
    with pytest.raises(SystemExit, match=error) as ended:
        script(videos, "--adapter", tmp_path / "run", "--classes", *CLASSES, "--out", tmp_path / "out")
    assert "\n" not in str(ended.value)


@pytest.mark.parametrize("weight", [0.3, 0.5, 1.0])
def test_the_frozen_model_has_its_weight(weight, script, adapter, videos, tmp_path):
    """Against cosines of a model without prompts and of one with them, both from `open_clip` itself."""
    file = videos / "b" / "one.avi"
    options = ["--frames", 3, "--temperature", 0.2, "--frozen-weight", weight, "--out", tmp_path]
    script(file, "--adapter", adapter, "--classes", *CLASSES, *options)
    clip, _, preprocess = open_clip.create_model_and_transforms(video_sets.MODEL)
    tokenizer = open_clip.get_tokenizer(video_sets.MODEL)
    video = torch.stack([preprocess(f) for f in decoding.read_frames(file, lambda total: sample_frames(total, 3))])

    def cosines(texts: list[str]) -> torch.Tensor:
        frames = clip.encode_image(video).mean(0)
        texts = clip.encode_text(tokenizer(texts))
        return torch.nn.functional.cosine_similarity(frames, texts, dim=-1)

    with torch.no_grad():
        frozen = cosines([f"a video of a person doing {name}." for name in CLASSES])
        vilt_prompt.from_pretrained(clip, adapter)  # from here on `clip` has prompts
        prompted = cosines(CLASSES)
    expected = ((weight * frozen + (1 - weight) * prompted) / 0.2).softmax(-1)
    torch.testing.assert_close(probabilities(tmp_path)[1][0], expected, atol=1e-5, rtol=1e-5)


def test_old_pictures_are_removed_and_other_files_kept(script, adapter, videos, tmp_path):
    out = tmp_path / "out"
    script(videos, "--adapter", adapter, "--classes", *CLASSES, "--out", out)
    (out / "0003 mine.png").touch()
    assert len(list(out.glob("*.png"))) == 3
    script(videos / "b" / "one.avi", "--adapter", adapter, "--classes", *CLASSES, "--out", out)
    assert sorted(file.name for file in out.glob("*.png")) == ["0001 one.png", "0003 mine.png"]


@pytest.mark.parametrize(
    ("frames", "columns"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 3), (7, 7), (8, 4), (9, 3), (16, 4), (32, 8)]
)
def test_rows_of_a_strip_are_full(frames, columns):
    assert strip.columns_of(frames) == columns
    assert -frames % strip.columns_of(frames) <= 1


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (64, 64)])
@pytest.mark.parametrize("frames", [1, 5, 10])
def test_a_strip_shows_the_frames_in_order_and_the_lines(frames, size, tmp_path):
    colours = (video_sets.COLOURS[:5] * 2)[:frames]
    pictures = [Image.new("RGB", size, colour) for colour in colours]
    assert strip.draw_strip(tmp_path / "strip.png", pictures, ["a line"]) == ""
    drawn = np.asarray(Image.open(tmp_path / "strip.png")).astype(int)
    assert drawn.shape[1] <= strip.WIDTH
    # The frames are the areas of one colour: all of them, row by row, of the shape of the frames.
    seen = []
    for colour in dict.fromkeys(colours):
        rows, columns = np.nonzero((drawn == colour).all(-1))
        for half in range(colours.count(colour)):
            own = slice(half * len(rows) // colours.count(colour), (half + 1) * len(rows) // colours.count(colour))
            top, left = rows[own].min(), columns[own].min()
            height, width = rows[own].max() - top + 1, columns[own].max() - left + 1
            assert height * size[0] == pytest.approx(width * size[1], rel=0.03)
            seen.append((top, left, colour))
    assert [colour for *_, colour in sorted(seen)] == colours
    ink = np.nonzero((drawn.max(-1) < 100).any(1))[0]
    assert len(ink) >= 15  # letters of a height that can be read
    assert drawn.shape[0] - ink.max() < 2 * strip.TEXT
    covered = sum((drawn == colour).all(-1).sum() for colour in dict.fromkeys(colours))
    assert covered > 0.5 * drawn.shape[0] * drawn.shape[1]  # not half empty


def test_a_long_caption_goes_on_in_the_next_line(tmp_path):
    pictures = [Image.new("RGB", (40, 20), (200, 40, 40))]
    line = "a line that is far longer than one frame is wide " * 3
    strip.draw_strip(tmp_path / "long.png", pictures, [line])
    drawn = np.asarray(Image.open(tmp_path / "long.png"))
    assert drawn.shape[1] <= strip.WIDEST
    font, text, _ = fonts.font_for(line, strip.TEXT)
    parts = strip.wrapped(text, font, strip.WIDEST - 2 * strip.GAP)
    assert " ".join(parts) == line.strip()
    assert all(font.getlength(part) <= strip.WIDEST - 2 * strip.GAP for part in parts)
    parts = strip.wrapped("x" * 100, font, 200)
    assert "".join(parts) == "x" * 100
    assert all(font.getlength(part) <= 200 for part in parts)


def test_a_label_that_no_font_has_is_escaped_with_a_note(monkeypatch, script, adapter, videos, tmp_path, capsys):
    monkeypatch.setattr(fonts, "_font_files", lambda character: [])
    out = tmp_path / "out"
    script(videos / "a" / "one.mp4", "--adapter", adapter, "--classes", "水泳", "🏊 swimming", "--out", out)
    said = capsys.readouterr()
    assert "no font here has 水泳🏊: the pictures show escapes, the table is complete\n" in said.err
    assert probabilities(out)[0] == ["水泳", "🏊 swimming"]
    assert fonts.font_for("水泳 100%", 20)[1:] == (r"\u6c34\u6cf3 100%", "水泳")


def test_a_font_with_the_characters_is_found(monkeypatch):
    font, text, missing = fonts.font_for("плавание\ufe0f", 20)  # matplotlib brings a font with Cyrillic letters
    assert (text, missing) == ("плавание", "")
    assert font.getname()[0] == "DejaVu Sans"
    monkeypatch.setattr(fonts, "_characters", lambda file: frozenset("水") if file == "b.ttf" else frozenset())
    monkeypatch.setattr(fonts, "_font_files", lambda character: ["a.ttf", "b.ttf"])
    opened = []
    monkeypatch.setattr(fonts.ImageFont, "truetype", lambda file, size: opened.append((file, size)))
    fonts.font_for("水", 20)
    assert opened == [("b.ttf", 20)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.mp4", "--classes", "a"], "there is no video or folder nowhere.mp4"),
        (["bare", "--classes", "a"], "bare holds no videos, whose names end in .mp4, .avi"),
        (["bad.mp4", "--class-file", "nowhere.txt"], "there is no nowhere.txt"),
        (["bad.mp4", "--class-file", "empty.txt"], "empty.txt is empty"),
        (["bad.mp4", "--classes", "a", "--frames", "0"], "--frames must be at least 1, got 0"),
        (["bad.mp4", "--class-file", "latin.txt"], "latin.txt is not UTF-8 text, see line 1"),
        (
            ["bad.mp4", "--classes", "a", "--temperature", "0"],
            "--temperature must be a positive and finite number, or .model., got 0.0",
        ),
        (["bad.mp4", "--classes", "a", "--temperature", "own"], "--temperature must be a positive .*, got own"),
        (["bad.mp4", "--classes", "a", "--frozen-weight", "1.5"], "--frozen-weight must be in 0..1, got 1.5"),
        (["bad.mp4"], "the adapter does not record the classes of its training: add --classes or --class-file"),
        (["bad.mp4", "--classes", "a", " "], "class ' ' has no words in its name"),
        (["bad.mp4", "--classes", "BrushHair", "brush_hair"], "'BrushHair' and 'brush_hair' both read 'brush hair'"),
        (["bad.mp4", "--class-file", "twice.txt"], "twice.txt holds 'walking' twice, in line 1 and line 3"),
        (
            ["bad.mp4", "--classes", "a", "--adapter", "run"],
            "run holds no adapter: neither it nor best/ or last/ in it",
        ),
        (
            ["bad.mp4", "--classes", "a", "--adapter", "moved"],
            "the base model of moved is the folder clips/small, relative to the adapter or to the folder in which the "
            "training was started, which is not here: say where it is with --model local-dir:FOLDER",
        ),
        (["bad.mp4", "--classes", "a", "--device", "gpu"], "--device gpu cannot be used: .*; choose cpu, or cuda"),
        (["bad.mp4", "--classes", "a"], "none of the 1 videos can be decoded"),
        (
            ["bad.mp4", "--classes", "a", "--adapter", "nameless"],
            "the adapter nameless does not name its open_clip model",
        ),
        (["bad.mp4", "--classes", "a", "--adapter", "bare"], "bare holds no adapter"),
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
    Path("twice.txt").write_text("walking\nrunning\nwalking\n")
    (Path("run") / "last").mkdir(parents=True)
    with_base(adapter, Path("nameless"), None)
    with_base(adapter, Path("moved"), "local-dir:clips/small")
    with pytest.raises(SystemExit, match=f"^predict.py: error: .*{message}") as ended:
        script("--adapter", adapter, *arguments)
    assert "\n" not in str(ended.value)
