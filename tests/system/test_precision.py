"""Half precision: which dtype features have, and two hundred steps of training that stay finite and learn."""

from __future__ import annotations

import contextlib
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

import vilt_prompt
from tests.support import zoo

MEMBERS = ["vit", "siglip", "eva02", "roberta", "mt5", "coca"]
SMALL_CLIP = Path(__file__).parents[2] / "examples" / "small_clip" / "emoji-vit-12x128"
HALF = [torch.bfloat16, torch.float16]


def inputs(name: str, model: nn.Module, videos: int = 2, frames: int = 2):
    return zoo.frames(model, videos, frames), zoo.text_ids(name, [1, 4, 2])


def assert_near(got: torch.Tensor, want: torch.Tensor, tolerance: float) -> None:
    got, want = (nn.functional.normalize(features.detach().float(), dim=-1) for features in (got, want))
    assert (got - want).norm(dim=-1).max() <= tolerance


@pytest.mark.parametrize("name", MEMBERS)
def test_autocast(name):
    """The prompted model's features come in the dtype of the bare one's, and near to float32's."""
    bare = zoo.build(name)
    model = vilt_prompt.wrap(zoo.build(name), K=2, n_ctx=3)
    video, text = inputs(name, model)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        dtypes = bare.encode_image(video[0]).dtype, bare.encode_text(text).dtype
    with torch.autocast("cpu", torch.bfloat16):
        got = model.encode_video(video), model.encode_text(text)
    assert (got[0].dtype, got[1].dtype) == dtypes
    for ours, exact in zip(got, (model.encode_video(video), model.encode_text(text)), strict=True):
        assert_near(ours, exact, 0.1)
    (got[0].float().sum() + got[1].float().sum()).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("when", ["before wrap", "after wrap"])
def test_half_precision_base(name, dtype, when):
    """Features come in the base's precision. Prompts are float32 unless they were made before it was halved."""
    torch.manual_seed(0)
    exact = vilt_prompt.wrap(zoo.build(name), K=2, n_ctx=3)
    state = exact.prompts.state_dict()
    if when == "before wrap":
        model = vilt_prompt.wrap(zoo.build(name).to(dtype), K=2, n_ctx=3)
    else:
        model = vilt_prompt.wrap(zoo.build(name), K=2, n_ctx=3).to(dtype)
    model.prompts.load_state_dict(state)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32 if when == "before wrap" else dtype}
    video, text = inputs(name, model)
    got = model.encode_video(video.to(dtype)), model.encode_text(text)
    for ours, want in zip(got, (exact.encode_video(video), exact.encode_text(text)), strict=True):
        assert ours.dtype == dtype
        assert_near(ours, want, 0.15 if dtype == torch.bfloat16 else 0.02)
    (got[0].float().sum() + got[1].float().sum()).backward()
    assert all(p.grad.dtype == p.dtype and p.grad.isfinite().all() for p in trained)


def test_prompts_of_a_model_that_was_halved_go_back_to_float32():
    model = vilt_prompt.wrap(zoo.build("vit"), K=2, n_ctx=3).half()
    model.prompts.float()
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert model.encode_text(zoo.text_ids("vit", [1, 2])).dtype == torch.float16


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["autocast bfloat16", "bfloat16 base", "float16 base"])
def test_two_hundred_steps_stay_finite_and_learn(setting):
    torch.manual_seed(0)
    name = "vit"
    dtype = {"bfloat16 base": torch.bfloat16, "float16 base": torch.float16}.get(setting, torch.float32)
    model = vilt_prompt.wrap(zoo.build(name).to(dtype), K=2, n_ctx=3).train()
    video, text = inputs(name, model, videos=6)
    labels = torch.arange(6) % 3
    with torch.no_grad():
        scenario = nn.functional.normalize(model.encode_text_without_prompts(text).float(), dim=-1)
    loss = vilt_prompt.ScenarioGuidedLoss(scenario, alpha=1.0)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-3)
    losses = []
    for _ in range(200):
        context = torch.autocast("cpu", torch.bfloat16) if setting.startswith("autocast") else contextlib.nullcontext()
        with context:
            value = loss(model.encode_video(video.to(dtype)), model.encode_text(text), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert torch.tensor(losses).isfinite().all()
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_open_clips_own_precisions(precision, dtype):
    """open_clip halves the large weights and leaves the norms in float32."""
    name = f"local-dir:{SMALL_CLIP}"
    exact = vilt_prompt.wrap(open_clip.create_model(name))
    model = vilt_prompt.wrap(open_clip.create_model(name, precision=precision))
    model.prompts.load_state_dict(exact.prompts.state_dict())
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    text = open_clip.get_tokenizer(name)(["swimming", "playing the guitar"])
    video = torch.randn(2, 2, 3, 64, 64)
    for got, want in (
        (model.encode_text(text), exact.encode_text(text)),
        (model.encode_video(video.to(dtype)), exact.encode_video(video)),
    ):
        assert got.dtype == dtype
        assert_near(got, want, 0.1)
