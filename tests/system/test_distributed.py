"""Two processes with half of the batch each give what one process gives with all of it: DDP, FSDP2 and the examples."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import vilt_prompt
from tests.support.processes import (
    FRAME_MASK,
    LABELS,
    METHODS,
    OTHERS,
    SHARDED,
    build,
    gradients,
    half,
    loss,
    pairs,
    texts,
    train,
    trainable,
    videos,
    wrapped,
)

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CLIP = ROOT / "examples" / "small_clip" / "emoji-vit-12x128"
TOLERANCE = 1e-5  # of the norm of each tensor


def launch(*command: str, processes: int = 2, timeout: float = 180) -> str:
    """Run a script under torchrun, and return its output."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*torchrun, *command], env=environment, **pipes) as running:
        try:
            printed, _ = running.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            running.terminate()  # killed, as subprocess.run would, torchrun leaves its processes behind
            raise
    assert running.returncode == 0, printed
    return printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> list[dict]:
    """What each process got in each scenario; a traceback where it failed."""
    launch("-m", "tests.support.processes", str(folder))
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert isinstance(actual, dict), actual
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensor.norm() > 0, name
        distance = (actual[name] - tensor).norm() / tensor.norm()
        assert distance < TOLERANCE, f"{name}: {distance}"


def joint_gradients(method: str = "vilt", frame_mask: Tensor | None = None) -> dict[str, Tensor]:
    """Of one process with all videos."""
    model = wrapped(method=method)
    video_features, text_features, _ = model(videos(), texts(), frame_mask=frame_mask)
    loss(video_features, text_features, LABELS).backward()
    return gradients(model)


@pytest.mark.parametrize("scenario", [f"ddp {method}" for method in METHODS])
def test_ddp_gradients(outcomes, scenario):
    expected = joint_gradients(scenario.removeprefix("ddp "))
    for outcome in outcomes:
        assert_equal(outcome[scenario], expected)


@pytest.mark.parametrize("name", OTHERS)
def test_ddp_gradients_of_other_models(outcomes, name):
    model = wrapped(name)
    pairs(model, name, slice(None)).backward()
    for outcome in outcomes:
        assert_equal(outcome[f"ddp {name}"], gradients(model))


def test_ddp_with_other_frame_counts_in_each_process(outcomes):
    expected = joint_gradients(frame_mask=FRAME_MASK)
    for outcome in outcomes:
        assert_equal(outcome["ddp uneven frames"], expected)


def test_ddp_accumulates_gradients(outcomes):
    first, second = (
        outcome["ddp accumulation"]["own"]["base_model.model.prompts.vilt_text.default"] for outcome in outcomes
    )
    assert not torch.allclose(first, second)  # so nothing was sent before the last of them
    expected = joint_gradients()
    for outcome in outcomes:
        assert_equal(outcome["ddp accumulation"]["shared"], expected)


def test_ddp_in_two_calls(outcomes):
    expected = joint_gradients()
    for outcome in outcomes:
        assert_equal(outcome["ddp two calls"], expected)


@pytest.mark.parametrize("scenario", ["ddp clip loss", "ddp local clip loss", "ddp checkpointing"])
def test_open_clip_loss_across_processes(outcomes, scenario):
    model = wrapped()
    open_clip.ClipLoss()(*model(videos(), texts(rows=4))).backward()
    for outcome in outcomes:
        assert_equal(outcome[scenario], gradients(model))


def test_videos_alone_leave_a_map_unused(outcomes):
    """As the page on several GPUs says: F~ makes text prompts alone."""
    model = wrapped()
    model(videos())[0].square().cumsum(1).mean().backward()
    expected = gradients(model)
    assert not any("F_tilde" in name for name in expected)
    for outcome in outcomes:
        assert "Expected to have finished reduction in the prior iteration" in outcome["ddp video only"]
        assert_equal(outcome["ddp video only, unused found"], expected)


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_training_in_two_processes_and_one_file(outcomes, folder, wrapper):
    model = wrapped()
    train(model, trainable(model), slice(None))
    expected = dict(model.prompts.named_parameters())
    for outcome in outcomes:
        assert_equal(outcome[f"{wrapper} training"], expected)
    assert sorted(path.name for path in (folder / wrapper).glob("adapter*")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    loaded = vilt_prompt.from_pretrained(build("4/4"), folder / wrapper)
    for name, parameter in loaded.prompts.named_parameters():
        assert torch.equal(parameter, outcomes[1][f"{wrapper} training"][name])


@pytest.mark.parametrize(("name", "units"), SHARDED)
def test_fully_sharded_features_and_gradients(outcomes, name, units):
    model = wrapped(name)
    video_features, text_features = model.encode_video(videos(name)), model.encode_text(texts(name))
    loss(video_features, text_features, LABELS).backward()
    for rank, outcome in enumerate(outcomes):
        found = outcome[f"fsdp {name} {units}"]
        assert isinstance(found, dict), found
        assert_equal(
            {"video": found["video"], "text": found["text"]},
            {"video": video_features[half(rank)], "text": text_features},
        )
        assert_equal(found["gradients"], gradients(model))


@pytest.mark.parametrize("scenario", ["fsdp forward", "fsdp checkpointing"])
def test_fully_sharded_forward(outcomes, scenario):
    expected = joint_gradients(frame_mask=FRAME_MASK)
    for outcome in outcomes:
        assert isinstance(outcome[scenario], dict), outcome[scenario]
        assert outcome[scenario]["in shards"]
        assert outcome[scenario]["taken apart"]
        assert_equal(outcome[scenario]["gradients"], expected)


def assert_trained(losses: list[list[float]], folder: Path) -> None:
    """Two processes have the same losses as one, and save the same prompts."""
    model = wrapped()
    expected = train(model, trainable(model), slice(None))
    for step, joint in enumerate(expected):
        assert sum(each[step] for each in losses) / 2 == pytest.approx(joint, rel=1e-5)
    loaded = vilt_prompt.from_pretrained(build("4/4"), folder)
    assert_equal(dict(loaded.prompts.named_parameters()), dict(model.prompts.named_parameters()))


@pytest.mark.parametrize("units", ["model", "blocks"])
def test_fsdp1_trains_and_saves_whole_tensors(outcomes, folder, units):
    found = [outcome[f"fsdp1 {units}"] for outcome in outcomes]
    assert all(isinstance(each, dict) for each in found), found
    for outcome in found:
        assert "is in shards on several processes" in outcome["without"]
        assert "pass state_dict=" in outcome["without"]
    assert [outcome["prompts"] for outcome in found] == [6, 0]  # rank0_only
    assert_trained([outcome["losses"] for outcome in found], folder / f"fsdp1 {units}")


def test_fully_sharded_prompts_are_not_saved_without_state_dict(outcomes, folder):
    """Each process raises the error, and none waits for another one."""
    found = [outcome["fsdp without state_dict"] for outcome in outcomes]
    assert all(isinstance(each, dict) for each in found), found
    assert "pass state_dict=" in found[0]["alone"]
    for outcome in found:
        assert "pass state_dict=" in outcome["all"]
    assert not (folder / "unsaved").exists()


def test_deepspeed_zero3_trains_and_saves_whole_tensors(folder, monkeypatch):
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    launch("-m", "tests.support.processes", str(folder), "zero3")
    found = [torch.load(folder / f"zero3{rank}.pt")["zero3"] for rank in (0, 1)]
    assert all(isinstance(each, dict) for each in found), found
    assert "pass state_dict=" in found[0]["without"]
    assert [outcome["whole"] for outcome in found] == [True, False]
    assert_trained([outcome["losses"] for outcome in found], folder / "zero3")


def test_page_on_several_gpus(folder):
    """The page's blocks run to their end in both processes, each with videos of its own, and one of them saves."""
    (folder / "examples").symlink_to(ROOT / "examples")
    printed = launch("-m", "tests.support.processes", str(folder), "page")
    assert len(set(re.findall(r"^loss .*", printed, flags=re.MULTILINE))) == 2
    for name in ("out", "out-fsdp"):
        loaded = vilt_prompt.from_pretrained(open_clip.create_model(f"local-dir:{CLIP}"), folder / name)
        assert all(parameter.isfinite().all() for parameter in loaded.prompts.parameters())


def test_fully_sharded_without_adapter(outcomes):
    clip = build("4/4")
    with torch.no_grad():
        images = torch.stack([clip.encode_image(video) for video in videos()])
        expected = {"video": images.mean(dim=1), "text": clip.encode_text(texts())}
    expected = {name: torch.nn.functional.normalize(features, dim=-1) for name, features in expected.items()}
    for outcome in outcomes:
        assert_equal(outcome["fsdp without adapter"], expected)


@pytest.mark.parametrize(("script", "options"), [("train_accelerate", []), ("train_lightning", ["--devices", "2"])])
def test_examples(script, options, folder, monkeypatch):
    """Two processes train together and save once. Another run continues from the saved adapter."""
    path, out = ROOT / "examples" / f"{script}.py", folder / script
    assert len(path.read_text().splitlines()) <= 80
    printed = launch("-m", f"examples.{script}", "--steps", "2", "--out", str(out), *options)
    adapter = load_file(out / "adapter_model.safetensors")
    checkpoint = out / "last.ckpt"
    if script == "train_accelerate":
        assert printed.count("step 2: loss") == printed.count("of 15 test videos right") == 1
    else:
        assert "Starting with 2 processes" in printed
        assert checkpoint.stat().st_size < 1_000_000

    # No step is left to be taken, so what comes out is what went in.
    resumed = [str(out), "--steps", "0"] if script == "train_accelerate" else [str(checkpoint), "--steps", "2"]
    monkeypatch.setattr(sys, "argv", [path.name, "--resume", *resumed, "--out", str(folder / "resumed" / script)])
    importlib.import_module(f"examples.{script}").main()
    for name, tensor in load_file(folder / "resumed" / script / "adapter_model.safetensors").items():
        assert torch.equal(tensor, adapter[name])
        assert tensor.norm() > 0
