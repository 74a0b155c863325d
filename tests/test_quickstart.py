"""The examples: which frames they take, that their scenes depend on the seed alone, and that the quickstart runs."""

import doctest
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import av
import classify
import clips
import frames
import numpy as np
import pytest
import quickstart
import shots
import torch
import wild

EXAMPLES = Path(__file__).parents[1] / "examples"
MANIFEST = clips.read_manifest(EXAMPLES / "data")
VIDEO = next(clip.file for clip in MANIFEST if not clip.has_alpha)


def test_centres_of_equal_segments() -> None:
    assert doctest.testmod(frames).failed == 0
    assert frames.sample_frames(33, 1).tolist() == [16]
    assert frames.sample_frames(97, 8).tolist() == [6, 18, 30, 42, 54, 66, 78, 90]


@pytest.mark.parametrize(("total", "wanted"), [(97, 4), (33, 16), (16, 16)])
def test_random_frames_stay_in_their_segments(total: int, wanted: int) -> None:
    generator = torch.Generator().manual_seed(0)
    seen = torch.stack([frames.sample_frames(total, wanted, generator) for _ in range(300)])
    starts = torch.arange(wanted) * total // wanted
    ends = (torch.arange(1, wanted + 1) * total - 1) // wanted  # The last frame that begins within the segment.
    assert ((seen >= starts) & (seen <= ends)).all()
    assert torch.equal(seen.amin(0), starts)
    assert torch.equal(seen.amax(0), ends)


def test_short_videos_repeat_frames_in_order() -> None:
    assert frames.sample_frames(1, 4).tolist() == [0, 0, 0, 0]
    assert frames.sample_frames(3, 5).tolist() == [0, 0, 1, 2, 2]
    drawn = frames.sample_frames(3, 5, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, drawn.sort().values)
    assert int(drawn.max()) <= 2


def test_no_frames() -> None:
    with pytest.raises(ValueError, match="A video of 0 frames cannot give 4"):
        frames.sample_frames(0, 4)


def test_mp4_frames_are_the_sampled_ones() -> None:
    with av.open(VIDEO) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    pictures = clips.read_video(VIDEO, 4)
    expected = [whole[number] for number in frames.sample_frames(len(whole), 4).tolist()]
    assert all(np.array_equal(picture, frame) for picture, frame in zip(pictures, expected, strict=True))
    assert len({picture.tobytes() for picture in pictures}) == 4
    assert len(clips.read_video(VIDEO, len(whole) + 5)) == len(whole) + 5


def test_what_is_no_video_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="There is no video nowhere"):
        clips.read_video(Path("nowhere.mp4"), 4)
    with pytest.raises(ValueError, match=r"manifest\.csv cannot be decoded as a video"):
        clips.read_video(EXAMPLES / "data" / "manifest.csv", 4)


def test_every_action_has_eight_shots_and_four_tests() -> None:
    labels = {(clip.split, clip.label) for clip in MANIFEST}
    assert sorted(split for split, _ in labels) == ["base"] * 15 + ["novel"] * 15
    for _, label in labels:
        for person in ("man", "person", "woman"):
            kinds = sorted(clip.has_alpha for clip in MANIFEST if (clip.label, clip.person) == (label, person))
            assert kinds == [False] + [True] * 4
    assert all(clip.file.is_file() for clip in MANIFEST)


def test_scenes_depend_on_the_seed_alone() -> None:
    chosen = shots.Shots.read(MANIFEST, ["biking", "running"], ["woman"])
    assert chosen.clips.shape == (8, 16, 4, 80, 80)
    assert chosen.clips.dtype == torch.uint8

    def scenes(seed: int) -> torch.Tensor:
        rendered: torch.Tensor = wild.wild(chosen.clips[:, ::4], 64, wild.Dice(seed))
        return rendered

    torch.manual_seed(1)
    first = scenes(0)
    torch.manual_seed(2)
    assert torch.equal(first, scenes(0))
    assert not torch.allclose(first, scenes(1))
    assert first.shape == (8, 4, 3, 64, 64)
    assert 0 <= first.min() <= first.max() <= 1
    # Clips of a batch differ in their scenes, and the frames of a clip in the place of camera and occluder.
    assert first.std(0).mean() > 0.1
    assert (first[:, 0] - first[:, 3]).abs().mean() > 0.02


def test_a_cut_out_without_a_figure_is_all_background() -> None:
    nothing = torch.zeros(6, 2, 4, 80, 80, dtype=torch.uint8)
    nothing[:, :, :3] = 255  # The colour of transparent pixels must not show.
    assert wild._figures(nothing, torch.zeros(6, 2, 32, 32, 2), wild.Dice(0)).abs().max() == 0


def test_training_epochs_show_every_clip_once_in_new_scenes() -> None:
    chosen = shots.Shots.read(MANIFEST, ["biking", "running"], ["woman"])
    studio = shots.Studio(4, 32, lambda scenes: scenes - 1, wild.Dice(0))
    loader = studio.loader(chosen, 3)
    first, second = list(loader), list(loader)
    assert [len(labels) for _, labels in first] == [3, 3, 2]
    assert len(loader) == 3
    assert torch.cat([labels for _, labels in first]).bincount().tolist() == [4, 4]
    assert not torch.equal(first[0][0], second[0][0])
    assert first[0][0].max() <= 0  # The transform was applied.


def test_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--classes", "3", "--epochs", "1", "--renderings", "1", "--out", str(tmp_path)]
    # Nothing may be fetched, and threads that wait for each other on a busy machine cost more than they save.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / "quickstart.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for row in ("pixel centroid", "linear probe", "zero-shot", "ViLT prompts", "harmonic mean", "same predictions"):
        assert row in done.stdout
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 1_000_000

    adapter = str(tmp_path / "adapter")
    monkeypatch.setattr(
        sys, "argv", ["classify.py", str(VIDEO), "--adapter", adapter, "--classes", "biking", "running"]
    )
    classify.main()
    assert capsys.readouterr().out.startswith(VIDEO.name)


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        (quickstart, ["--model", "nowhere"], "error: nowhere is no folder of an open_clip model"),
        (quickstart, ["--data", "nowhere"], "error: nowhere is no folder of clips: it holds no manifest.csv"),
        (classify, [str(VIDEO), "--adapter", "nowhere", "--classes", "a"], "error: nowhere is no folder of an adapter"),
    ],
)
def test_wrong_path_is_one_clear_line(
    script: ModuleType, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *options])
    with pytest.raises(SystemExit, match=f"^{script.__name__}.py: {message}") as ended:
        script.main()
    assert "\n" not in str(ended.value)
