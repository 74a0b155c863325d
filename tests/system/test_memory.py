"""What a training step keeps in memory: bytes of live tensors, counted, and gradients that chunks do not change."""

from __future__ import annotations

import open_clip
import pytest
import torch
from torch import Tensor, nn

import vilt_prompt
from benchmarks import models
from benchmarks.memory import training_step
from tests.support import zoo
from tests.support.architectures import build
from tests.support.exactness import randomise_prompts
from tests.support.live_memory import LiveMemory, size_of

GIB = 2**30


def wrapped(name: str = "vit", **settings) -> nn.Module:
    model = vilt_prompt.wrap(zoo.build(name), **{"K": 2, "n_ctx": 3, **settings}).train()
    randomise_prompts(model)
    return model


def peak(model: nn.Module, frames: int, **arguments) -> int:
    """Bytes that a step on one real video takes at most, beside the model and the video."""
    video = zoo.frames(model, 1, frames)
    with LiveMemory(model, video) as memory:
        model.encode_video(video, **arguments).sum().backward()
    model.zero_grad()
    return memory.peak


def gradients(model: nn.Module, features: Tensor) -> list[Tensor]:
    direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(5))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = torch.autograd.grad((features * direction).sum(), trained, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def assert_close(got: list[Tensor], want: list[Tensor]) -> None:
    for ours, plain in zip(got, want, strict=True):
        assert (ours - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_live_memory_counts_storages_once_and_lets_go_of_them():
    known = torch.zeros(100)
    with LiveMemory(known) as memory:
        one = torch.ones(1000)
        assert memory.bytes == 4000
        view = one[10:].reshape(-1, 10)
        known.add_(1)
        assert memory.bytes == 4000
        del one
        assert memory.bytes == 4000
        del view
        assert memory.bytes == 0
    assert memory.peak == 4000
    assert size_of(nn.Linear(4, 4)) == 4 * (16 + 4)


@pytest.mark.parametrize("name", ["vit", "siglip", "eva02"])
def test_memory_grows_with_the_frames_and_chunks_stop_it(name):
    model = wrapped(name)
    four, eight, sixteen = (peak(model, frames) for frames in (4, 8, 16))
    assert (sixteen - eight) / (eight - four) == pytest.approx(2, rel=0.05)
    assert peak(model, 16, frames_per_chunk=4) < 1.2 * four
    model.set_grad_checkpointing()
    assert peak(model, 16) < 0.6 * sixteen


def test_without_gradients_chunks_bound_the_memory_too():
    model = wrapped()
    video = zoo.frames(model, 1, 16)
    with torch.no_grad():
        with LiveMemory(model, video) as whole:
            model.encode_video(video)
        with LiveMemory(model, video) as chunked:
            model.encode_video(video, frames_per_chunk=4)
    assert chunked.peak < 0.5 * whole.peak


def inference_peaks(model: nn.Module, images: Tensor) -> tuple[int, int]:
    """Bytes that the features of images take at most, with prompts, and by open_clip's own forward."""
    with torch.no_grad():
        with LiveMemory(model, images) as library:
            model.encode_image(images)
        with model.disable_adapter(), LiveMemory(model, images) as bare:
            model.encode_image(images)
    return library.peak, bare.peak


@pytest.mark.parametrize("settings", [{}, {"K": 3, "depth": 6}], ids=["fresh", "carried"])
def test_inference_takes_no_more_memory_than_the_bare_model(settings):
    """All layers and tokens of ViT-B/16, in a narrow width."""
    model = vilt_prompt.wrap(models.build(models.NARROW, "cpu"), n_ctx=10, **settings)
    library, bare = inference_peaks(model, torch.randn(4, 3, 224, 224))
    assert library <= bare


@pytest.mark.parametrize("name", ["siglip", "eva02"])
def test_nor_do_timm_s_towers(name):
    model = wrapped(name).eval()
    library, bare = inference_peaks(model, zoo.frames(model, 32))
    assert library <= bare


def test_one_layer_at_a_time_has_its_relative_position_bias():
    model = wrapped("relpos").eval()
    library, bare = inference_peaks(model, zoo.frames(model, 1))
    prompts = [prompt for prompt in model.layer_prompts().vision if prompt is not None]
    assert library <= bare + size_of(*prompts)  # one image has so few tokens that the prompts count


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("name", ["vit", "coca", "siglip", "relpos"])
def test_chunks_leave_gradients_as_they_are(name, checkpointed):
    model = wrapped(name).eval()  # in training the MLP of relative positions has dropout
    video = zoo.frames(model, 2, 5)
    mask = torch.tensor([[True, False, True, True, True], [True, True, False, False, True]])
    want = gradients(model, model.encode_video(video, frame_mask=mask))
    model.set_grad_checkpointing(checkpointed)
    assert_close(gradients(model, model.encode_video(video, frame_mask=mask, frames_per_chunk=2)), want)


def test_patches_are_dropped_alike_when_a_chunk_is_computed_again():
    clip = build("patch_dropout")
    model = vilt_prompt.wrap(clip, K=2, n_ctx=3).train()
    randomise_prompts(model)
    video = zoo.frames(model, 1, 4)
    torch.manual_seed(0)
    want = gradients(model, model.encode_video(video))
    torch.manual_seed(0)
    features = model.encode_video(video, frames_per_chunk=4)
    torch.randn(10)
    assert_close(gradients(model, features), want)


def test_chunks_are_computed_again_with_the_prompts_they_were_computed_with():
    model = wrapped()
    model.add_adapter("other", vilt_prompt.PromptConfig(K=2, n_ctx=3))
    video = zoo.frames(model, 2, 4)
    want = gradients(model, model.encode_video(video))
    features = model.encode_video(video, frames_per_chunk=3)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.set_adapter("other")  # which freezes the adapter that was active
    for parameter in trained:
        parameter.requires_grad_(True)
    for parameter in model.prompts.vilt_vision["other"], model.prompts.vilt_text["other"]:
        parameter.requires_grad_(False)
    assert_close(gradients(model, features), want)


@pytest.mark.slow
def test_32_frames_of_vit_b_16_fit_on_a_gpu_of_11_gb():
    model = vilt_prompt.wrap(open_clip.CLIP(**open_clip.get_model_config("ViT-B-16")), n_ctx=10)
    model.set_grad_checkpointing()
    two, four = training_step(model, 2), training_step(model, 4)
    per_frame = (four.peak - two.peak) / 2
    assert four.model + four.peak + 28 * per_frame < 2 * GIB
    # Two moments and the gradient for each of 864,512 float32 parameters are a hundredth of the remaining memory.
    assert 0.5 * GIB < four.model < 0.6 * GIB
