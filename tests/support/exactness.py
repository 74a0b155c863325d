"""How tests compare the library with the literal computation: a wrapped model, its reference, and both gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

import vilt_prompt
from tests.reference.literal import (
    learnable_tensors,
    literal_encode_image,
    literal_encode_text,
    literal_encode_video,
    literal_prompts,
    literal_settings,
    text_blocks,
    text_width,
    vision_blocks,
    vision_width,
)
from tests.support.architectures import build, class_ids, frames

N_CTX = 3
FEATURE_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
GRADIENT_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
NAME_LENGTHS = [1, 4, 2, 0, 7]
FRAME_MASK = torch.tensor([[True, False, True], [False, True, False]])


class Reference:
    """The literal computation on a frozen copy of the base model, with copies of a wrapped model's prompts and maps."""

    def __init__(self, base: nn.Module, wrapped: nn.Module, settings: dict):
        names = ("method", "K", "depth", "towers", "lead", "mapper", "pairing")
        self.base = base
        self.settings = literal_settings(base, **{name: settings[name] for name in names if name in settings})
        self.n_ctx = settings["n_ctx"]
        self.n_ctx_vision = settings.get("n_ctx_vision") or self.n_ctx
        self.tensors = {
            name: tensor.detach().clone().requires_grad_() for name, tensor in learnable_tensors(wrapped).items()
        }

    def prompts(self) -> tuple[list[Tensor | None], list[Tensor | None]]:
        return literal_prompts(
            self.tensors,
            text_layers=len(text_blocks(self.base)),
            vision_layers=len(vision_blocks(self.base)),
            **self.settings,
        )

    def encode_text(self, ids: Tensor) -> Tensor:
        return literal_encode_text(self.base, ids, self.prompts()[0])

    def encode_image(self, images: Tensor) -> Tensor:
        return literal_encode_image(self.base, images, self.prompts()[1])

    def encode_video(self, video: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        return literal_encode_video(self.base, video, self.prompts()[1], frame_mask)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The learnable tensors that the settings call for; the numbers of layers come from the printed table."""
        d_t, d_v = text_width(self.base), vision_width(self.base)
        depth, split = self.settings["text_depth"], self.settings["K"]
        if self.settings["lead"] == "own":
            counts = {"text": depth, "vision": self.settings["vision_depth"], "F": 0, "F_tilde": 0}
        elif self.settings["pairing"] == "proportional":
            d, layers = self.settings["vision_depth"], depth
            led = sum(-(-i * layers // d) <= (split or layers) for i in range(1, d + 1))
            counts = {"text": split or layers, "vision": d - led, "F": led, "F_tilde": layers - (split or layers)}
        elif self.settings["lead"] == "text":
            counts = {"text": depth, "vision": 0, "F": depth, "F_tilde": 0}
        else:
            counts = {"text": split, "vision": depth - split, "F": split, "F_tilde": depth - split}

        shapes: dict[str, tuple[int, ...]] = {
            "vilt_text": (counts["text"], self.n_ctx, d_t),
            "vilt_vision": (counts["vision"], self.n_ctx_vision, d_v),
        }
        for name, (d_in, d_out) in {"F": (d_t, d_v), "F_tilde": (d_v, d_t)}.items():
            per_layer = (counts[name],) if self.settings["mapper"] == "per_layer" else ()
            shapes[f"vilt_{name}.weight"] = (*per_layer, d_out, d_in)
            shapes[f"vilt_{name}.bias"] = (*per_layer, d_out)
        return {name: shape for name, shape in shapes.items() if counts[name.removeprefix("vilt_").split(".")[0]]}


def frozen_copy(clip: nn.Module) -> nn.Module:
    return copy.deepcopy(clip).requires_grad_(False)


@torch.no_grad()
def randomise_prompts(model: nn.Module, seed: int = 1) -> None:
    """Makes prompts and maps large: at their initial scale a wrong bias or row would hide in the rounding."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(learnable_tensors(model).items()):
        scale = tensor.shape[-1] ** -0.5 if name.endswith("weight") else 0.5
        tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))


def wrap_tiny(
    architecture: str, dtype: torch.dtype = torch.float32, model: dict | None = None, **settings
) -> tuple[nn.Module, Reference]:
    """Wraps a tiny model with large random prompts, and gives the reference for it."""
    return with_reference(build(architecture, **(model or {})), dtype, **{"n_ctx": N_CTX, **settings})


def with_reference(clip: nn.Module, dtype: torch.dtype = torch.float32, **settings) -> tuple[nn.Module, Reference]:
    """The same for a model that is there."""
    base = frozen_copy(clip).to(dtype)
    wrapped = vilt_prompt.wrap(clip, **settings).to(dtype)
    randomise_prompts(wrapped)
    return wrapped, Reference(base, wrapped, settings)


def relative_error(got: Tensor, want: Tensor) -> float:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    return ((got - want).abs().max() / want.abs().max()).item()


def assert_equal(got: Iterable[Tensor], want: Iterable[Tensor]) -> None:
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(got, want, strict=True))


def assert_same_gradients(got: dict[str, Tensor], want: dict[str, Tensor], tolerance: float, mapper: str) -> None:
    """Compares layer by layer, so that a layer with large gradients cannot hide an error in one with small ones."""
    assert got.keys() == want.keys()
    for name, wanted in want.items():
        stacked = mapper == "per_layer" or name in ("vilt_text", "vilt_vision")
        layers = range(len(wanted)) if stacked else [slice(None)]
        for layer in layers:
            if wanted[layer].any():
                error = relative_error(got[name][layer], wanted[layer])
                assert error <= tolerance, f"gradient of {name}[{layer}]: {error:.1e}"
            else:
                assert not got[name][layer].any(), f"gradient of {name}[{layer}] should be zero"


def gradients(tensors: dict[str, Tensor], features: Tensor) -> dict[str, Tensor]:
    """Gradients of a fixed random combination of the features; zeros if the features do not depend on a tensor."""
    combination = torch.randn(features.shape, generator=torch.Generator().manual_seed(5)).to(features.dtype)
    for tensor in tensors.values():
        tensor.grad = None
    (features * combination).sum().backward()
    return {name: torch.zeros_like(t) if t.grad is None else t.grad.clone() for name, t in tensors.items()}


def assert_exact(
    model: nn.Module,
    reference: Reference,
    ids: Tensor | None = None,
    frame_mask: Tensor = FRAME_MASK,
    frames_per_chunk: int | None = 4,
) -> None:
    """Features and gradients of texts, images and masked, chunked videos equal the literal computation's."""
    dtype = next(iter(reference.tensors.values())).dtype
    mapper = reference.settings["mapper"]
    tensors = learnable_tensors(model)
    ids = class_ids(reference.base, NAME_LENGTHS) if ids is None else ids
    images, video = frames(reference.base, 3).to(dtype), frames(reference.base, *frame_mask.shape, seed=1).to(dtype)
    pairs = {
        "text": (lambda: model.encode_text(ids, normalize=False), lambda: reference.encode_text(ids)),
        "image": (lambda: model.encode_image(images, normalize=False), lambda: reference.encode_image(images)),
        "video": (
            lambda: model.encode_video(video, frame_mask=frame_mask, frames_per_chunk=frames_per_chunk),
            lambda: reference.encode_video(video, frame_mask),
        ),
    }

    trained = dict.fromkeys(tensors, False)
    for kind, (ours, literal) in pairs.items():
        got, want = ours(), literal()
        error = relative_error(got, want)
        assert error <= FEATURE_TOLERANCE[dtype], f"{kind} features: {error:.1e}"
        assert got.requires_grad == want.requires_grad, f"{kind} features"
        if want.requires_grad:
            want_gradients = gradients(reference.tensors, want)
            got_gradients = gradients(tensors, got)
            assert_same_gradients(got_gradients, want_gradients, GRADIENT_TOLERANCE[dtype], mapper)
            trained = {name: trained[name] or bool(want_gradients[name].any()) for name in trained}
    assert all(trained.values()), f"no gradient reaches some of {trained}"
    assert all(p.grad is None for name, p in model.named_parameters() if not p.requires_grad)
