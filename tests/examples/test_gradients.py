"""Gradients in parts equal the whole batch's, and fit into the memory that the pages promise."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import vilt_prompt
from examples.paper import recognition, retrieval
from examples.paper.training import fit, gradients, memory
from examples.paper.training.chunks import InChunks
from tests.support import video_sets
from tests.support.live_memory import LiveMemory, size_of, tensors_of

DOCS = Path(__file__).parents[2] / "docs"
LABELS = Path(__file__).parents[2] / "benchmarks" / "labels"
CAPTION = "a man in a red shirt is cutting an onion on a wooden board in a kitchen while he talks to the camera"
CPU = torch.device("cpu")
PASSES = gradients.Passes(CPU, contextlib.nullcontext, torch.amp.GradScaler("cpu", enabled=False))


@pytest.fixture(scope="module")
def model() -> vilt_prompt.PromptPeftModel:
    torch.manual_seed(0)
    clip, _, _ = open_clip.create_model_and_transforms(video_sets.MODEL)
    return vilt_prompt.wrap(clip, n_ctx=2).train()


def objectives(model: vilt_prompt.PromptPeftModel) -> dict[str, gradients.Objective]:
    tokenizer = open_clip.get_tokenizer(video_sets.MODEL)
    names = ["running", "riding a bike", "juggling"]
    labels = torch.tensor([0, 2, 1, 1, 0, 2])
    criterion = vilt_prompt.ScenarioGuidedLoss(vilt_prompt.scenario_features(model, tokenizer, names))
    captions = tokenizer([f"{name} number {n}" for n in (1, 2) for name in names])

    def loss_of(network: nn.Module, videos: Tensor, numbers: Tensor) -> Tensor:
        video_features, class_features, *_ = network(videos, tokenizer(names))
        return criterion(video_features, class_features, labels[numbers])

    def contrastive(features: tuple[Tensor, ...]) -> Tensor:
        videos, texts = features
        logits = videos @ texts.T / 0.07
        own = torch.arange(len(logits))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    return {
        "classes": gradients.MeanObjective(loss_of),
        "captions": gradients.JointObjective(lambda net, videos, n: tuple(net(videos, captions[n])[:2]), contrastive),
    }


def whole_batch(objective: gradients.Objective, model: nn.Module, videos: Tensor, numbers: Tensor) -> Tensor:
    """The loss as it is written down, without any parts."""
    if isinstance(objective, gradients.MeanObjective):
        return objective.loss(model, videos, numbers)
    assert isinstance(objective, gradients.JointObjective)
    return objective.loss(objective.features(model, videos, numbers))


def gradients_of(model: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    model.zero_grad()
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in found)
    return found


@pytest.mark.parametrize("frames_per_chunk", [None, 3])
@pytest.mark.parametrize("micro_batch", [1, 2, 4, 6, 9])
@pytest.mark.parametrize("name", ["classes", "captions"])
def test_parts_add_up_to_the_whole_batch(
    name: str, micro_batch: int, frames_per_chunk: int | None, model: vilt_prompt.PromptPeftModel
) -> None:
    if frames_per_chunk is not None and micro_batch not in (2, 6):
        pytest.skip("chunks do not depend on the parts")
    torch.manual_seed(1)
    videos, numbers = torch.randn(6, 2, 3, 64, 64), torch.tensor([3, 1, 0, 5, 4, 2])
    objective = objectives(model)[name]
    expected_loss = whole_batch(objective, model, videos, numbers)
    expected_loss.backward()
    expected = gradients_of(model)
    network = model if frames_per_chunk is None else InChunks(model, frames_per_chunk)
    loss = objective.backward(network, videos, numbers, micro_batch, PASSES)
    torch.testing.assert_close(loss, expected_loss.detach())
    for ours, plain in zip(gradients_of(model), expected, strict=True):
        assert (ours - plain).abs().max() <= 2e-5 * plain.abs().max()


def test_a_part_that_comes_again_has_the_same_dropout() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5))
    seen: list[Tensor] = []

    def features(network: nn.Module, videos: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        seen.append(network(videos))
        return (seen[-1],)

    objective = gradients.JointObjective(features, lambda features: features[0].square().sum())
    objective.backward(network, torch.randn(5, 4), torch.arange(5), 2, PASSES)
    assert [len(part) for part in seen] == [2, 2, 1, 2, 2, 1]
    for first, again in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(first, again.detach())
    assert not torch.equal(seen[0], seen[1])


def plan(**settings: object) -> fit.Plan:
    return fit.Plan(1, 1e-3, 0.0, "fp32", CPU, 1, 1, **settings)  # type: ignore[arg-type]


def test_out_of_memory_is_one_line_with_what_fits(
    model: vilt_prompt.PromptPeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that holds 3 videos beside the texts: the line says so, and with it the step ends well."""
    videos, numbers = torch.randn(6, 2, 3, 64, 64), torch.arange(6)
    objective = objectives(model)["classes"]
    texts, per_frame = memory.needs(lambda video: objective.alone(model, video, numbers[:1]), videos, model)
    free = int((texts + 3.5 * 2 * per_frame) / memory.MARGIN)

    def loss_of(network: nn.Module, part: Tensor, numbers: Tensor) -> Tensor:
        if len(part) * part.shape[1] * per_frame + texts > memory.MARGIN * free:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return objective.alone(network, part, numbers)

    monkeypatch.setattr(fit, "report", lambda batch, run: None)  # there is no folder of a run
    monkeypatch.setattr(fit, "free_bytes", lambda device: free)
    small = gradients.MeanObjective(loss_of)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    batch = fit.Batch(videos, numbers, ())
    rest = (small, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    with pytest.raises(ValueError, match="^out of memory: 6 videos of 2 frames") as ended:
        fit.train_step(model, batch, *rest, plan(), None)  # type: ignore[arg-type]
    line = str(ended.value)
    assert "\n" not in line
    assert "add --micro-batch 3, which is estimated to fit, or give a lower --frames-per-chunk" in line
    assert all(parameter.grad is None for parameter in model.parameters())
    fit.train_step(model, batch, *rest, plan(micro_batch=3), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^out of memory: 4 videos of 2 frames"):
        fit.train_step(model, batch, *rest, plan(micro_batch=4), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("free", "said"),
    [
        (25.0, "add --micro-batch 9, which is estimated"),
        (3.0, "add --micro-batch 1, which is estimated"),
        (2.0, "add --micro-batch 1 --frames-per-chunk 22, which are estimated"),
        (0.1, "not even --micro-batch 1 --frames-per-chunk 1 is estimated to fit; choose a smaller --model"),
    ],
)
def test_what_is_said_to_fit_follows_the_memory(free: float, said: str) -> None:
    line = memory.advice(64, 32, texts=100_000_000, per_frame=62_500_000, free=int(free * 1e9))
    assert line.startswith("out of memory: 64 videos of 32 frames in one pass keep about 128.1 GB, and ")
    assert said in line


def test_saved_bytes_are_counted_once() -> None:
    layer = nn.Linear(100, 100, bias=False)
    x = torch.randn(50, 100, requires_grad=True)
    assert memory.saved_bytes(lambda: layer(x).sum(), layer) == 50 * 100 * 4
    assert memory.saved_bytes(lambda: (layer(x) + layer(x)).sum(), layer) == 50 * 100 * 4
    assert memory.saved_bytes(lambda: layer(x).exp().sum(), layer) == 2 * 50 * 100 * 4


def documented(page: str) -> list[tuple[int, list[str]]]:
    """The commands of a page that train ViT-B/16: how many processes, and their options."""
    text = re.sub(r"\\\n\s*", "", (DOCS / f"{page}.md").read_text())
    found = re.findall(rf"^ *(.*)-m examples\.paper\.{page} (.*ViT-B-16.*)$", text, flags=re.MULTILINE)
    lines = [(start, options.replace("$seed", "0")) for start, options in found if "--adapter" not in options]
    return [(int((re.findall(r"nproc-per-node (\d+)", start) or ["1"])[0]), shlex.split(line)) for start, line in lines]


def step_bytes(model: nn.Module, frames: int, chunk: int | None) -> int:
    """The most that a pass over one video has beside the model and the video; counted as torch makes tensors."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        video = torch.empty(1, frames, 3, 224, 224)
    with LiveMemory(video, *(fake.from_tensor(tensor) for tensor in tensors_of(model))) as live, fake:
        with torch.autocast("cpu", torch.bfloat16):
            features = model.encode_video(video, frames_per_chunk=chunk)
        features.float().sum().backward()
    model.zero_grad()
    return live.peak


@pytest.mark.parametrize(("page", "arguments"), [("recognition", recognition), ("retrieval", retrieval)])
def test_documented_commands_fit(page: str, arguments: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 GB for one process, the paper's 11 GB for each of four; frames count linearly, so few are counted."""
    found = documented(page)
    assert {processes for processes, _ in found} == {1, 4}
    clip = open_clip.create_model("ViT-B-16-quickgelu")
    tokenizer = open_clip.get_tokenizer("ViT-B-16-quickgelu")
    counted: dict[tuple[object, ...], tuple[int, int, int, int]] = {}
    for processes, options in found:
        monkeypatch.setattr(sys, "argv", [page, *options])
        args = arguments.arguments()  # type: ignore[attr-defined]
        videos = min(args.batch // processes, args.micro_batch or args.batch)
        # As many texts as Kinetics has classes, or long captions.
        names = (LABELS / "kinetics400.txt").read_text().splitlines() if page == "recognition" else [CAPTION] * videos
        key = (args.K, args.n_ctx, args.depth, args.frames_per_chunk, len(names))
        if key not in counted:
            model = vilt_prompt.wrap(clip, K=args.K, n_ctx=args.n_ctx, depth=args.depth).train()
            tokens = tokenizer(names, context_length=77 - args.n_ctx)
            texts = memory.saved_bytes(lambda model=model, tokens=tokens: model.encode_text(tokens), model)
            one, three = (step_bytes(model, frames, args.frames_per_chunk) for frames in (1, 3))
            counted[key] = (size_of(model), texts, one, three)
            vilt_prompt.unwrap(model)
        size, texts, one, three = counted[key]
        per_frame = (three - one) / 2
        batch = 4 * 3 * 224 * 224 * args.frames * videos
        total = size + texts + one + per_frame * (args.frames * videos - 1) + batch
        print(f"{page} {options[0]}, {processes} processes: {total / 1e9:.1f} GB, {per_frame / 1e6:.1f} MB a frame")
        assert total < 0.9 * (11e9 if processes == 4 else 24e9), f"{total / 1e9:.1f} GB: {options}"


def test_memory_is_measured_as_the_step_has_it(model: vilt_prompt.PromptPeftModel) -> None:
    """The bytes that `needs` finds for each frame are the additional bytes that are alive with more frames."""
    objective = objectives(model)["classes"]

    def alive(frames: int) -> int:
        videos = torch.zeros(1, frames, 3, 64, 64)
        with LiveMemory(model, videos) as live:
            loss = objective.alone(model, videos, torch.tensor([0]))
            return live.bytes if loss.requires_grad else 0

    videos, numbers = torch.zeros(1, 2, 3, 64, 64), torch.tensor([0])
    _, per_frame = memory.needs(lambda video: objective.alone(model, video, numbers), videos, model)
    assert per_frame == pytest.approx((alive(9) - alive(3)) / 6, rel=0.1)
