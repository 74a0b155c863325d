"""Every tensor is made on the model's device, which is not always the default one.

Two stand-ins for a GPU. With "meta" as the default device, a tensor that is made without a device is on "meta", and
meets the model on the CPU: values can be read, so everything runs. Fake tensors on "cuda" have no values, but tell
apart a GPU from "cpu" where the code names it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import vilt_prompt
from tests.support import zoo
from vilt_prompt.towers.packing import PackedTexts, pack

CLASSES, FRAMES = 5, 3
GPU = torch.device("cuda:0")  # with an index: without one, torch asks the driver which GPU is the current one
READERS = ("losses", "towers.token_ids", "model.video")  # the modules that read values
SETTINGS = {
    "vilt": {"K": 2},
    "vilt_text_leads": {"K": 4},
    "vilt_vision_leads": {"K": 1, "depth": 3},
    "per_layer": {"K": 2, "mapper": "per_layer"},
    **{method: {"method": method} for method in vilt_prompt.METHODS if method != "vilt"},
}


def wrapped(name: str, settings: dict) -> nn.Module:
    return vilt_prompt.wrap(zoo.build(name), **{"K": 2, "n_ctx": 3, **settings}).train()


def inputs(name: str, model: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two videos (2, T, 3, H, W), the mask of their frames (2, T), texts (C, L), labels (2,)."""
    mask = torch.ones(2, FRAMES, dtype=torch.bool, device="cpu")
    mask[0, -1] = False
    text = zoo.text_ids(name, [1 + row % 4 for row in range(CLASSES)])
    return zoo.frames(model, 2, FRAMES), mask, text, torch.tensor([0, 3], device="cpu")


class NothingOnMeta(TorchDispatchMode):
    """Refuses operations whose result is on "meta"."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            assert not isinstance(tensor, Tensor) or not tensor.is_meta, f"{function} was called without a device"
        return out


def forward(model: nn.Module, video: Tensor, mask: Tensor, text: Tensor | PackedTexts, labels: Tensor) -> list[Tensor]:
    """All features, the loss and the prompts of a training step."""
    videos = model.encode_video(video, frame_mask=mask, normalize=True)
    classes = model.encode_text(text, normalize=True)
    scenario = vilt_prompt.ScenarioGuidedLoss(classes.detach().clone())
    return [
        videos,
        classes,
        model.encode_video(video, frames_per_chunk=2, pool=False),
        model.encode_image(video[:, 0]),
        *(each for each in model(video, text) if each is not None),
        scenario(videos, classes, labels),
        *(prompt for prompt in (*model.layer_prompts().text, *model.layer_prompts().vision) if prompt is not None),
    ]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(("vit", settings) for settings in SETTINGS),
        *((name, "vilt") for name in ("siglip", "eva02", "relpos", "worldwide_mt5", "roberta", "mt5")),
    ],
)
def test_with_another_default_device(name, settings):
    model = wrapped(name, SETTINGS[settings])
    arguments = inputs(name, model)
    with torch.device("meta"), NothingOnMeta():
        made = forward(model, *arguments)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        made += torch.autograd.grad(sum(each.square().sum() for each in made), trained)
    assert {tensor.device.type for tensor in made} == {"cpu"}


@pytest.mark.parametrize("settings", SETTINGS)
def test_wrap_puts_prompts_where_the_model_is(settings):
    model = vilt_prompt.wrap(zoo.build("vit").to("meta"), **{"K": 2, "n_ctx": 3, **SETTINGS[settings]})
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize("settings", SETTINGS)
def test_with_fake_tensors_on_a_gpu(settings, monkeypatch):
    for module in READERS:  # fake tensors have no values to check, as tensors have none while a graph is recorded
        monkeypatch.setattr(f"vilt_prompt.{module}.is_readable", lambda tensor: False)
    model = wrapped("vit", SETTINGS[settings])
    video, mask, text, labels = inputs("vit", model)
    names = [row[1 : row.index(max(row)) + 1] for row in text.tolist()]
    with FakeTensorMode(allow_non_fake_inputs=True):
        move_to_gpu(model)
        packed = pack(names, text[:1, :1].to(GPU))
        assert {field.device for field in packed if isinstance(field, Tensor)} == {GPU}
        made = forward(model, video.to(GPU), mask.to(GPU), packed, labels.to(GPU))
        made.append(model.encode_text(text.to(GPU)))  # as they are, in the padded layout
    assert {tensor.device for tensor in made} == {GPU}  # autograd needs a driver even for fake tensors


def move_to_gpu(model: nn.Module) -> None:
    """Replace parameters and buffers by fake ones on a GPU. `nn.Module.to` cannot change the class of a parameter."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.data.to(GPU), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(GPU)
