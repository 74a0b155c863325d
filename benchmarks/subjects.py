"""The subjects that are compared: bare open_clip, the literal token-by-token computation, and the library.

All three share one set of frozen weights. At inference a subject gives features; in training a loss that is linear in
them, as if another loss had sent back a fixed gradient: a cross-entropy over C logits would cost microseconds.

Shapes: B videos, C classes, T frames, D features.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import vilt_prompt
from benchmarks import class_names, models
from benchmarks.cases import Case, kept_bytes
from tests.reference.literal import (
    learnable_tensors,
    literal_encode_text,
    literal_encode_video,
    literal_prompts,
    literal_settings,
)

AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Subject:
    """One of the three, ready to run: its parts run one after another, nearly always one."""

    name: str
    parts: list[Callable[[], Tensor]]
    trained: nn.Module  # whose weights take gradients while it runs; the prompted model's prompts always do
    all_weights: bool  # whether all of them do: bare open_clip has nothing else to train

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Its weights take gradients inside; none are left of an earlier run."""
        self.trained.zero_grad(set_to_none=True)
        if self.all_weights:
            self.trained.requires_grad_(True)
        try:
            yield
        finally:
            if self.all_weights:
                self.trained.requires_grad_(False)
                self.trained.zero_grad(set_to_none=True)


class Inputs:
    """The token ids and the video of a case, and the gradients that are sent back to their features."""

    def __init__(self, case: Case, sizes: models.Sizes) -> None:
        generator = torch.Generator().manual_seed(1)
        names = [] if case.labels is None else class_names.read_names(case.labels)
        shape = (1, case.frames or 0, 3, sizes.image_size, sizes.image_size)
        self.ids = class_names.token_ids(names).to(case.device) if names else None  # (C, 77)
        self.video = torch.randn(shape, generator=generator).to(case.device) if case.frames else None
        self.text_gradient = torch.randn(len(names), sizes.embed_dim, generator=generator).to(case.device)
        self.video_gradient = torch.randn(1, sizes.embed_dim, generator=generator).to(case.device)


class Bench:
    """One model on one device, and its prompted copy."""

    def __init__(self, model: str, device: str) -> None:
        self.sizes = models.sizes(model)
        self.base = models.build(model, device)
        shared = {id(parameter): parameter for parameter in self.base.parameters()}
        self.prompted = vilt_prompt.wrap(copy.deepcopy(self.base, shared), K=self.sizes.K, n_ctx=self.sizes.n_ctx)
        self.tensors = learnable_tensors(self.prompted)

    def weights(self) -> list[Tensor]:
        """The tensors that exist before a run, and so are not activations."""
        return [*self.base.parameters(), *self.base.buffers(), *self.prompted.parameters(), *self.prompted.buffers()]

    def gradients(self) -> Tensor:
        """The gradients of all prompts and maps as one vector."""
        return torch.cat(
            [torch.zeros_like(t).flatten() if t.grad is None else t.grad.flatten() for t in self.tensors.values()]
        )

    def subject(self, name: str, case: Case, inputs: Inputs, memory: float) -> Subject:
        """One subject of a case; in parts if it would keep more than `memory` bytes for its backward pass.

        Classes and frames do not depend on each other, so the seconds of parts add up. The library runs whole.
        """
        pieces = [(inputs.ids, inputs.video, inputs.text_gradient)]
        if name != "library" and not fits(case, memory):
            pieces = _pieces(case, inputs, memory)

        def run(ids: Tensor | None, video: Tensor | None, text_gradient: Tensor) -> Tensor:
            with autocast(case):
                encode_text, encode_video = self._encoders(name)
                text = None if ids is None else encode_text(ids)  # (C, D)
                frames = None if video is None else encode_video(video)  # (1, D)
            if case.mode == "inference":
                return frames if text is None else text
            loss = torch.zeros((), device=case.device)
            if text is not None:
                loss = loss + (text * text_gradient).sum()
            if frames is not None:
                share = video.shape[1] / inputs.video.shape[1]  # of a mean over the frames of all pieces
                loss = loss + share * (frames * inputs.video_gradient).sum()
            return loss

        bare = name == "bare"
        parts = [lambda piece=piece: run(*piece) for piece in pieces]
        return Subject(name, parts, self.base if bare else self.prompted, all_weights=bare and case.mode == "train")

    def _encoders(self, name: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Token ids (C, 77) -> (C, D), and a video (1, T, 3, H, W) -> (1, D)."""
        if name == "library":
            return self.prompted.encode_text, self.prompted.encode_video
        if name == "bare":
            return self.base.encode_text, lambda video: self.base.encode_image(video[0]).mean(dim=0, keepdim=True)
        text_prompts, vision_prompts = literal_prompts(
            self.tensors,
            text_layers=self.sizes.text_layers,
            vision_layers=self.sizes.vision_layers,
            **literal_settings(self.base, K=self.sizes.K),
        )
        return (
            lambda ids: literal_encode_text(self.base, ids, text_prompts),
            lambda video: literal_encode_video(self.base, video, vision_prompts),
        )


def autocast(case: Case) -> contextlib.AbstractContextManager[object]:
    """Autocast to the precision of a case; nothing for fp32."""
    if case.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(case.device, dtype=AUTOCAST[case.precision])


def fits(case: Case, memory: float) -> bool:
    """Whether a token-by-token run keeps at most this many bytes."""
    texts = 0 if case.labels is None else len(class_names.read_names(case.labels))
    return case.mode == "inference" or kept_bytes(case, texts, case.frames or 0) <= memory


def _pieces(case: Case, inputs: Inputs, memory: float) -> list[tuple[Tensor | None, Tensor | None, Tensor]]:
    pieces: list[tuple[Tensor | None, Tensor | None, Tensor]] = []
    if inputs.ids is not None:
        at_once = max(1, int(memory / kept_bytes(case, 1, 0)))
        chunks = zip(inputs.ids.split(at_once), inputs.text_gradient.split(at_once), strict=True)
        pieces += [(ids, None, gradient) for ids, gradient in chunks]
    if inputs.video is not None:
        at_once = max(1, int(memory / kept_bytes(case, 0, 1)))
        pieces += [(None, video, inputs.text_gradient) for video in inputs.video.split(at_once, dim=1)]
    return pieces
