"""The training script that people copy: from a folder of videos to an adapter that others can use."""

from __future__ import annotations

import ast
import multiprocessing.process
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import vilt_prompt
from examples import train
from examples.startup.trained import training_settings
from examples.video import files
from examples.video.decoding import read_frames
from examples.video.sampling import sample_frames
from tests.support import video_sets

SCRIPT = Path(train.__file__)
ACTIONS = ("juggling", "bowing", "bouncing_a_ball", "climbing")
OPTIONS = ["--model", video_sets.MODEL, "--device", "cpu", "--frames", "4", "--workers", "0"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes with 3 videos each, and files that are not videos."""
    root = tmp_path_factory.mktemp("train") / "videos"
    for action in ACTIONS:
        (root / action / "more").mkdir(parents=True)
        files = sorted((video_sets.EXAMPLES / "data" / "mp4").glob(f"{action}_[12]*.mp4"))
        for file, folder in zip(files, (root / action, root / action, root / action / "more"), strict=True):
            shutil.copy(file, folder)
    (root / ".cache").mkdir()
    (root / "list.csv").write_text("not a folder")
    (root / "juggling" / "notes.txt").write_text("not a video")
    return root


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Runs the script as a command, with its handling of errors."""
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_from_a_folder_to_an_adapter_that_predicts(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    run(monkeypatch, clips, *OPTIONS, "--validate", clips, "--epochs", 3, "--batch", 5, "--out", out)
    printed = capsys.readouterr()
    assert "4 classes, 12 videos to train on, 12 to validate" in printed.out
    assert "epoch 3 of 3" in printed.err  # the progress bar
    losses = [float(loss) for loss in re.findall(r"^epoch \d: loss ([\d.]+)", printed.out, flags=re.MULTILINE)]
    assert len(losses) == 3
    assert losses[2] < losses[0] / 2

    # A stranger needs the folder alone. The accuracy is that of the script, counted another way.
    model, preprocess, tokenizer = vilt_prompt.create_model_and_transforms(out)
    card = (out / "README.md").read_text()
    names = re.findall(r"^- (.*)$", card.partition("</summary>")[2], flags=re.MULTILINE)
    assert names == ["bouncing a ball", "bowing", "climbing", "juggling"]
    assert vilt_prompt.TEMPLATE in card
    temperature = pytest.approx(1 / model.logit_scale.exp().item())
    assert training_settings(str(out)) == {"frames": 4, "temperature": temperature}
    right = 0
    with torch.no_grad():
        class_features = model.encode_text(tokenizer(names), normalize=True)
        for file in clips.rglob("*.mp4"):
            pictures = read_frames(file, lambda total: sample_frames(total, 4))
            feature = model.encode_video(torch.stack([preprocess(picture) for picture in pictures])[None])
            action = file.relative_to(clips).parts[0].replace("_", " ")
            right += names[int((feature @ class_features.T).argmax())] == action
    assert f"{right / 12:.1%} of the 12 validation videos right\nsaved to the folder {out}" in printed.out
    assert f"| top-1 accuracy in % on 12 validation videos | {100 * right / 12:g} |" in card

    again = tmp_path / "again"
    run(monkeypatch, clips, *OPTIONS, "--validate", clips, "--epochs", 3, "--batch", 5, "--out", again)
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (out, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def touch(root: Path, *names: str) -> Path:
    """Empty files below a folder, which is returned."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_hidden_files_are_left_out_and_files_that_are_not_read_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = touch(tmp_path, "a/c.mp4", "b/deep/d.WEBM", "b/e.gif")
    found = (["a", "b"], [(root / "a/c.mp4", 0), (root / "b/deep/d.WEBM", 1), (root / "b/e.gif", 1)])
    assert train.find_videos(root) == found
    touch(root, "a/.DS_Store", "a/._c.mp4", "b/.ipynb_checkpoints/d-checkpoint.mp4", ".cache/x/f.mp4", "list.csv")
    touch(root, "__MACOSX/a/._c.mp4", "a/__MACOSX/c.mp4", "b/Thumbs.db")
    assert train.find_videos(root) == found
    assert capsys.readouterr().out == ""
    touch(root, "a/notes.txt", "b/deep/cover.jpg")
    assert train.find_videos(root) == found
    assert capsys.readouterr().out == f"2 of 5 files in {root} are not videos: they are left out\n"


def test_its_endings_are_some_of_those_that_the_other_scripts_read() -> None:
    assert train.SUFFIXES < files.SUFFIXES


@pytest.mark.parametrize(
    "name", ["__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", ".DS_Store", "._a.mp4", "macosx", "a.mp4"]
)
def test_it_ignores_what_the_other_scripts_ignore(name: str) -> None:
    assert train.is_ignored(name) == files.is_ignored(name)
    assert train.IGNORED == files.IGNORED


def test_help_shows_defaults_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(37)), raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit):
        train.arguments()
    printed = " ".join(capsys.readouterr().out.split())
    assert "(default: None)" not in printed
    for default in ("ViT-B-16-quickgelu", "openai", "0.008", "a GPU where there is one", "a fifth is held out"):
        assert f"(default: {default})" in printed
    assert "0: only this one (default: 37)" in printed  # the processors that this process may use


def test_mistakes_in_the_program_keep_their_traceback(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(vilt_prompt.ScenarioGuidedLoss, "for_classes", broken)
    with pytest.raises(RuntimeError, match="^shapes cannot be multiplied$"):
        run(monkeypatch, clips, *OPTIONS, "--out", tmp_path / "adapter")


def test_a_fifth_of_each_class_is_held_out() -> None:
    files = [(Path(f"{label}/{n}.mp4"), label) for label, count in enumerate((2, 9, 20)) for n in range(count)]
    torch.manual_seed(0)
    kept, held_out = train.hold_out(files)
    assert sorted(kept + held_out) == sorted(files)
    assert [sum(own == label for _, own in held_out) for label in range(3)] == [1, 1, 4]
    assert train.hold_out(files)[1] != held_out  # the draw is torch's: another seed, another draw


def pixels(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.convert("L"), dtype=np.float32))[None]


@pytest.mark.parametrize("frames", [1, 3, 5, 8])
def test_frames_are_those_of_the_middle_or_random_ones_of_segments(frames: int, tmp_path: Path) -> None:
    file = video_sets.write_video(tmp_path / "a.mp4", (220, 30, 30), frames=7)
    with av.open(str(file)) as container:
        every = [pixels(frame.to_image()) for frame in container.decode(video=0)]
    middle, label = train.Videos([(file, 3)], pixels, frames, is_random=False)[0]
    assert label == 3
    wanted = [every[int((segment + 0.5) * 7 / frames)] for segment in range(frames)]
    assert torch.equal(middle, torch.stack(wanted))

    torch.manual_seed(0)
    seen: list[set[int]] = [set() for _ in range(frames)]
    for _ in range(60):
        video, _ = train.Videos([(file, 3)], pixels, frames, is_random=True)[0]
        for segment, picture in enumerate(video):
            (number,) = [n for n, other in enumerate(every) if torch.equal(picture, other)]
            seen[segment].add(number)
    for segment, numbers in enumerate(seen):
        first, last = int(segment * 7 / frames), -int(-(segment + 1) * 7 // frames) - 1
        assert numbers == set(range(first, last + 1))


def test_a_cover_is_not_a_video(tmp_path: Path) -> None:
    video_sets.write_sound(tmp_path / "song.mp4", cover=True)
    with pytest.raises(ValueError, match=r"song.mp4 cannot be decoded as a video: convert or remove it"):
        train.Videos([(tmp_path / "song.mp4", 0)], pixels, 2, is_random=False)[0]


def test_the_pictures_may_come_after_the_sound(tmp_path: Path) -> None:
    file = video_sets.write_video(tmp_path / "silent.mp4", (220, 30, 30))
    video_sets.write_sound(tmp_path / "song.mp4")
    with av.open(tmp_path / "song.mp4") as song, av.open(file) as silent, av.open(tmp_path / "a.mp4", "w") as both:
        sources = [(song, song.streams[0]), (silent, silent.streams[0])]
        copies = [both.add_stream_from_template(stream) for _, stream in sources]
        for (container, stream), copied in zip(sources, copies, strict=True):
            for packet in container.demux(stream):
                if packet.size:
                    packet.stream = copied
                    both.mux(packet)
    wanted, _ = train.Videos([(file, 0)], pixels, 2, is_random=False)[0]
    video, _ = train.Videos([(tmp_path / "a.mp4", 0)], pixels, 2, is_random=False)[0]
    assert torch.equal(video, wanted)


def test_the_processes_of_each_loader_are_started_once(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[multiprocessing.process.BaseProcess] = []
    start = multiprocessing.process.BaseProcess.start

    def recorded(process: multiprocessing.process.BaseProcess) -> None:
        started.append(process)
        start(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", recorded)
    run(monkeypatch, clips, *OPTIONS[:-1], "1", "--epochs", 3, "--out", tmp_path / "adapter")
    assert "epoch 3: loss" in capsys.readouterr().out
    assert len(started) == 2  # one to train, one to validate


@pytest.mark.slow
def test_an_error_in_a_process_of_the_loader_is_one_line_too(clips: Path, tmp_path: Path) -> None:
    """The file is run alone, in a folder of its own, as a user who copies it does."""
    script = shutil.copy(SCRIPT, tmp_path / "train.py")
    videos = shutil.copytree(clips, tmp_path / "videos")
    video_sets.damage(next(videos.rglob("*.mp4")))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, script, "videos", *OPTIONS[:-1], "1", "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(r"train.py: error: videos/\S+\.mp4 cannot be decoded as a video: convert or remove it", last)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "adapter").exists()


def test_nothing_of_the_examples_is_imported() -> None:
    nodes = [node for node in ast.walk(ast.parse(SCRIPT.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [getattr(node, "module", None) or alias.name for node in nodes for alias in node.names]
    assert not [name for name in names if name.split(".")[0] in ("examples", "tests")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder: give one that has a folder of videos for each class"),
        (["one/a/c.mp4"], "one/a/c.mp4 is not a folder: give one that has"),
        (["one"], r"one must have a folder for each of 2 or more classes, such as one/swimming/a.mp4, got \['a'\]"),
        (["one/a"], r"one/a must have a folder .*, such as .*/swimming/a.mp4, got no folders"),
        (["videos", "--validate", "nowhere"], "nowhere is not a folder: give one"),
        (["empty"], r"empty has folders without videos, \['b'\]: add videos or remove these folders"),
        (["single"], "single/b/c.mp4 is alone in its class: add another video"),
        (["videos", "--validate", "single"], r"single must hold the folders \['b.*juggling'\], got \['a', 'b'\]"),
        (["videos", "--frames", "0"], "--frames, --batch and --epochs must be at least 1"),
        (["videos", "--out", "made"], "made holds an adapter already: choose another --out"),
        (["videos", "--model", "ViT-Z"], "open_clip cannot load ViT-Z: .*ViT-Z"),
        (["videos", "--pretrained", "openai"], "emoji-vit-12x128 brings its own weights: leave out --pretrained"),
        (["."], r"\. holds train and test: use train --validate test"),
        (["equal"], r"two of the folders \['HorseRiding', 'horse_riding'\] have the same name in plain words"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    arguments: list[str], message: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "one/a/c.mp4", "empty/a/c.mp4", "empty/b/c.txt")
    touch(tmp_path, "single/a/c.mp4", "single/a/d.mp4", "single/b/c.mp4")
    touch(tmp_path, "train/a/c.mp4", "test/a/c.mp4")
    touch(tmp_path, *(f"equal/{name}/{file}.mp4" for name in ("HorseRiding", "horse_riding") for file in "cd"))
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "adapter_config.json").touch()
    (tmp_path / "videos").symlink_to(clips)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"^train.py: error: .*{message}") as ended:
        run(monkeypatch, *OPTIONS, *arguments)
    assert "\n" not in str(ended.value)
