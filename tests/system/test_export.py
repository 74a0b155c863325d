"""`torch.export` and ONNX: the prompts go into the file, the number of images, frames and texts stays open."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import vilt_prompt
from tests.support import zoo
from tests.support.exactness import randomise_prompts

pytestmark = pytest.mark.slow
TOLERANCE = 1e-5
ANY = torch.export.Dim("any", min=1)
# One member for each kind of tower on the side that is exported.
IMAGE_SIDES = ["vit", "clipa", "coca", "siglip", "eva02", "pe_core", "relpos"]
TEXT_SIDES = ["vit", "worldwide_xlm", "siglip", "coca", "roberta", "mt5", "nllb"]


class Side(nn.Module):
    """One of a wrapped model's methods as a module."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, batch: Tensor) -> Tensor:
        return getattr(self.model, self.method)(batch)


class FixedClasses(nn.Module):
    """Features of the same texts whenever it is called."""

    def __init__(self, model: nn.Module, text: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("text", text)

    def forward(self) -> Tensor:
        return self.model.encode_text(self.text)


def wrapped(name: str, **settings) -> nn.Module:
    model = vilt_prompt.wrap(zoo.build(name), **{"K": 2, "n_ctx": 3, **settings}).eval()
    randomise_prompts(model)
    return model


def assert_close(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() <= TOLERANCE * want.abs().max()


def assert_exported(side: nn.Module, example: Tensor, *others: Tensor, strict: bool = False) -> None:
    """Exports with an open first dimension; the graph gives the features of batches of other sizes, 1 among them."""
    with torch.no_grad():
        exported = torch.export.export(side, (example,), dynamic_shapes=({0: ANY},), strict=strict).module()
        for batch in (example, *others, others[0][:1]):
            assert_close(exported(batch), side(batch))


@pytest.mark.parametrize("name", IMAGE_SIDES)
def test_image_side(name):
    model = wrapped(name)
    assert_exported(Side(model, "encode_image"), zoo.frames(model, 4), zoo.frames(model, 6, seed=1))


@pytest.mark.parametrize("name", TEXT_SIDES)
def test_text_side(name):
    texts = [zoo.text_ids(name, lengths) for lengths in ([1, 4, 2, 0], [2, 2, 5, 1, 7, 3])]
    assert_exported(Side(wrapped(name), "encode_text"), *texts)


@pytest.mark.one_graph
@pytest.mark.parametrize("method", ["encode_image", "encode_text"])
def test_carried_prompts_and_strict_export(method):
    model = wrapped("vit", K=1, depth=2)
    if method == "encode_image":
        batches = [zoo.frames(model, 4), zoo.frames(model, 6, seed=1)]
    else:
        batches = [zoo.text_ids("vit", lengths) for lengths in ([1, 4, 2, 0], [2, 2, 5, 1, 7, 3])]
    assert_exported(Side(model, method), *batches, strict=True)


def test_video_of_any_number_of_frames():
    model = wrapped("vit")
    video = zoo.frames(model, 2, 4)
    frames = torch.export.Dim("frames", min=1)
    with torch.no_grad():
        exported = torch.export.export(
            Side(model, "encode_video"), (video,), dynamic_shapes=({0: ANY, 1: frames},), strict=False
        ).module()
        for batch in (video, zoo.frames(model, 5, 7, seed=1), zoo.frames(model, 1, 1, seed=2)):
            assert_close(exported(batch), model.encode_video(batch))


class Masked(nn.Module):
    """The features of videos with padded frames."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor, mask: Tensor) -> Tensor:
        return self.model.encode_video(video, frame_mask=mask)


def test_masked_frames_count_for_nothing_in_a_graph():
    model = wrapped("vit")
    mask = torch.tensor([[True, True, False, False], [True, False, True, True]])
    video = zoo.frames(model, 2, 4)
    with torch.no_grad():
        exported = torch.export.export(Masked(model), (video, mask), strict=False).module()
        for other in (mask, ~mask | mask[:1], torch.ones_like(mask)):
            holed = torch.where(other[:, :, None, None, None], video, torch.nan)
            want = torch.stack([model.encode_image(v[kept]).mean(0) for v, kept in zip(video, other, strict=True)])
            assert_close(exported(holed, other), want)


class Loss(nn.Module):
    """The training loss at the model's own temperature."""

    def __init__(self, scenario: Tensor) -> None:
        super().__init__()
        self.register_buffer("scenario", scenario)

    def forward(self, video: Tensor, text: Tensor, labels: Tensor, logit_scale: Tensor) -> Tensor:
        criterion = vilt_prompt.ScenarioGuidedLoss(self.scenario, temperature=1 / logit_scale.exp())
        return criterion(video, text, labels)


def test_the_loss_at_the_temperature_of_a_model():
    torch.manual_seed(0)
    side = Loss(nn.functional.normalize(torch.randn(3, 8), dim=-1))
    example, *others = [
        (torch.randn(4, 8), torch.randn(3, 8), torch.tensor(labels), torch.tensor(scale))
        for labels, scale in (([0, 1, 2, 1], 1.0), ([2, 2, 0, 1], 3.0))
    ]
    exported = torch.export.export(side, example, strict=False).module()
    for batch in (example, *others):
        assert_close(exported(*batch), side(*batch))


def test_fixed_classes():
    model = wrapped("vit")
    text = zoo.text_ids("vit", [1, 4, 2, 0])
    with torch.no_grad():
        exported = torch.export.export(FixedClasses(model, text), (), strict=False).module()
        assert_close(exported(), model.encode_text(text))


@pytest.mark.parametrize("name", ["vit", "eva02"])
def test_image_side_as_onnx(name, tmp_path):
    model = wrapped(name)
    side, path = Side(model, "encode_image"), tmp_path / "image.onnx"
    torch.onnx.export(
        side, (zoo.frames(model, 4),), path, dynamic_shapes=({0: ANY},), dynamo=True, input_names=["image"]
    )
    session = onnxruntime.InferenceSession(path)
    for images in (zoo.frames(model, 6, seed=1), zoo.frames(model, 1, seed=2)):
        (features,) = session.run(None, {"image": images.numpy()})
        with torch.no_grad():
            assert_close(torch.from_numpy(features), side(images))
