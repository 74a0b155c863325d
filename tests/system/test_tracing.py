"""`torch.jit.trace` and tools that use it: fvcore's counters, and the older exporter to ONNX."""

from __future__ import annotations

import io
import warnings

import onnxruntime
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

import vilt_prompt
from tests.support import zoo
from tests.support.exactness import randomise_prompts

TOLERANCE = 1e-5
# Beside open_clip's own encoders, one of each kind on the side that is traced.
OTHER_IMAGE_SIDES = ["coca", "siglip"]
OTHER_TEXT_SIDES = ["coca", "siglip", "roberta"]


class Side(nn.Module):
    """One of a wrapped model's methods as a module."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, batch: Tensor) -> Tensor:
        return getattr(self.model, self.method)(batch)


def wrapped(name: str) -> nn.Module:
    model = vilt_prompt.wrap(zoo.build(name), K=2, n_ctx=3).eval()
    randomise_prompts(model)
    return model


def batches(name: str, model: nn.Module, method: str) -> list[Tensor]:
    """Batches of 3, 6 and 1; videos of other numbers of frames, too."""
    if method == "encode_text":
        return [zoo.text_ids(name, lengths) for lengths in ([1, 4, 2], [2, 2, 5, 1, 7, 3], [3])]
    if method == "encode_image":
        return [zoo.frames(model, batch, seed=batch) for batch in (3, 6, 1)]
    return [zoo.frames(model, batch, frames, seed=batch) for batch, frames in ((2, 3), (3, 4), (1, 1))]


def assert_close(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() <= TOLERANCE * want.abs().max()


SIDES = [
    ("vit", "encode_text"),
    ("vit", "encode_image"),
    ("vit", "encode_video"),
    *[pytest.param(name, "encode_text", marks=pytest.mark.slow) for name in OTHER_TEXT_SIDES],
    *[pytest.param(name, "encode_image", marks=pytest.mark.slow) for name in OTHER_IMAGE_SIDES],
]


@pytest.mark.parametrize("example", [0, 2], ids=["traced with several", "traced with one"])
@pytest.mark.parametrize(("name", "method"), SIDES)
def test_a_trace_serves_any_batch(name, method, example):
    model = wrapped(name)
    side, inputs = Side(model, method), batches(name, model, method)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(side, inputs[example])
        for batch in inputs:
            assert_close(traced(batch), side(batch))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("vit", "encode_text"),
        pytest.param("vit", "encode_image", marks=pytest.mark.slow),
        pytest.param("vit", "encode_video", marks=pytest.mark.slow),
    ],
)
def test_the_older_exporter_to_onnx_keeps_the_batch_open(name, method):
    model = wrapped(name)
    side, inputs = Side(model, method), batches(name, model, method)
    axes = {0: "batch", 1: "frames"} if method == "encode_video" else {0: "batch"}
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated, and traces
        torch.onnx.export(
            side,
            (inputs[0],),
            file,
            dynamo=False,
            input_names=["input"],
            output_names=["features"],
            dynamic_axes={"input": axes, "features": {0: "batch"}},
        )
    session = onnxruntime.InferenceSession(file.getvalue())
    for batch in inputs:
        (features,) = session.run(None, {"input": batch.numpy()})
        with torch.no_grad():
            assert_close(torch.from_numpy(features), side(batch))


def test_fvcore_counts_both_sides():
    model = wrapped("vit")
    texts, images = zoo.text_ids("vit", [1, 4, 2, 5]), zoo.frames(model, 4)
    for method, batch in (("encode_text", texts), ("encode_image", images)):
        with torch.no_grad():
            whole, half = (
                FlopCountAnalysis(Side(model, method), part).unsupported_ops_warnings(False).total()
                for part in (batch, batch[:2])
            )
        assert 1.8 * half < whole < 2.05 * half
