"""The quickstart: its clips, that its scenes depend on the seed alone, and that it runs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from examples import predict, quickstart
from examples.data import clips
from examples.miniature import figure, shots, wild

EXAMPLES = Path(__file__).parents[2] / "examples"
MANIFEST = clips.read_manifest(EXAMPLES / "data")
VIDEO = next(clip.file for clip in MANIFEST if not clip.has_alpha)


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


@pytest.mark.slow
def test_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--classes", "3", "--epochs", "1", "--renderings", "1", "--out", str(tmp_path)]
    # Nothing may be fetched, and threads that wait for each other on a busy machine cost more than they save.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "examples.quickstart", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for row in ("pixel centroid", "linear probe", "zero-shot", "ViLT prompts", "harmonic mean", "same predictions"):
        assert row in done.stdout
    written = (tmp_path / "figure.svg").read_text()
    zero_shot, trained = re.findall(r"^(?:zero-shot|ViLT prompts) +([\d.]+) +([\d.]+) ", done.stdout, re.MULTILINE)
    for title, before, after in zip(("Base: trained", "Novel: other"), zero_shot, trained, strict=True):
        assert f"{title} actions: {before}% \u2192 {after}%" in written
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 1_000_000

    adapter = str(tmp_path / "adapter")
    out = str(tmp_path / "out")
    options = ["--adapter", adapter, "--classes", "biking", "running", "--out", out]
    monkeypatch.setattr(sys, "argv", ["predict.py", str(VIDEO), *options])
    predict.main()
    assert capsys.readouterr().out.startswith(VIDEO.name)


def test_the_figure_shows_each_action(tmp_path: Path) -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    rows = figure.accuracies(torch.tensor([0, 1, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 0, 1]), labels, ["up", "down"])
    assert rows == [("up", 0.25, 0.75), ("down", 1.0, 0.5)]
    figure.draw(tmp_path / "figure.svg", [4.0, 2.0, 1.0], {"Both": rows})
    svg = (tmp_path / "figure.svg").read_text()
    assert "Both: 62.5% \u2192 62.5%" in svg
    # From left to right 0% to 100%: hollow before, filled after, in another colour where training made it worse.
    circles = re.findall(r'cx="([\d.]+)" cy="[\d.]+" r="\d" class="f-(\w+) ', svg.split("Both")[1])
    places = [(round((float(x) - figure.LEFT) / (figure.RIGHT - figure.LEFT), 2), fill) for x, fill in circles]
    assert places == [(0.25, "page"), (0.75, "text"), (1.0, "page"), (0.5, "vision")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nowhere"], "nowhere holds no open_clip_config.json"),
        (["--data", "nowhere"], "nowhere holds no manifest.csv"),
    ],
)
def test_wrong_path_is_one_clear_line(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["quickstart.py", *options])
    with pytest.raises(SystemExit):
        quickstart.arguments()
    assert capsys.readouterr().err.endswith(f"quickstart.py: error: {message}\n")


def test_the_quickstart_is_readable_alone() -> None:
    imports = [
        node for node in ast.parse(Path(quickstart.__file__).read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    assert len([node for node in imports if str(node.module).startswith("examples")]) <= 3
