"""The prompted open_clip model: how it encodes videos, images and texts.

Shapes: B batch, T frames, C texts, L their columns, D features.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.checks import check_count, check_placed
from vilt_prompt.model.video import check_frame_mask, check_frames, encode_each_frame, frames_of, mean_over_frames
from vilt_prompt.prompts import LayerPrompts
from vilt_prompt.towers.families import prompts_where_needed, run_tower, text_tower, vision_tower


class PromptSource(Protocol):
    """Where the prompts of a model come from: the layer that holds its adapters."""

    @property
    def enabled(self) -> bool:
        """Whether an adapter takes part in the forward pass."""

    def tower_prompts(self, tower: str) -> list[Tensor | None]:
        """The (n, d) prompt that enters each layer of the tower "text" or "vision". None: no fresh prompt."""

    def to(self, device: torch.device) -> Any:
        """Move the parameters of all adapters."""


class PromptedModel(nn.Module):
    """Mixin over an open_clip model; its child `prompts` holds the adapters."""

    normalizes_by_default = False
    prompts: PromptSource
    flags_before: dict[str, bool]
    base_class: type[nn.Module]
    logit_scale: Tensor
    visual: nn.Module

    def encode_video(
        self,
        video: Tensor,
        *,
        frame_mask: Tensor | None = None,
        normalize: bool = False,
        frames_per_chunk: int | None = None,
        pool: bool = True,
    ) -> Tensor:
        """Features of videos: the mean over the frames of the unnormalised features of each frame (Eq. 4).

        Args:
            video: (B, T, 3, H, W), preprocessed frames.
            frame_mask: (B, T) bool, False where a frame is padding, which counts for nothing.
            normalize: Whether to scale to length 1, after the mean.
            frames_per_chunk: How many frames run at once; None: all. The backward pass computes each chunk again: one
                chunk's activations are kept at a time.
            pool: Whether to take the mean; otherwise each frame's features are returned, 0 for masked ones.

        Returns:
            (B, D), or (B, T, D) with `pool=False`.

        Raises:
            ValueError: If the video or the mask is of another shape, empty, or a video is masked altogether.
            TypeError: If the video is not float or the mask not bool.
        """
        self._check_video(video, frame_mask)
        check_count("frames_per_chunk", frames_per_chunk)
        # One set of prompts for all chunks, also when the backward pass computes them again.
        encode = functools.partial(self._encode_frames, prompts=self._active_prompts("vision"))
        (features,) = encode_each_frame(encode, video, frame_mask, frames_per_chunk)
        if pool:
            features = mean_over_frames(features, frame_mask)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_image(self, image: Tensor, normalize: bool | None = None) -> Tensor:
        """Features of images.

        Args:
            image: (B, 3, H, W), as `preprocess` makes them.
            normalize: Whether to scale to length 1; None: open_clip's own default for this model.

        Returns:
            (B, D).

        Raises:
            ValueError: If the images are of another shape, or there are none.
            TypeError: If they are not float.
        """
        base: Any = super()
        prompts = self._active_prompts("vision")
        if self.prompts.enabled:
            self._check_frames("image", image, 4)
        if prompts is None:
            return base.encode_image(image) if normalize is None else base.encode_image(image, normalize=normalize)
        features, _ = run_tower(vision_tower(self), image, prompts)
        return F.normalize(features, dim=-1) if self._normalizes(normalize) else features

    def encode_text(self, text: Tensor, normalize: bool | None = None) -> Tensor:
        """Features of texts. The prompts go in by themselves.

        Args:
            text: (C, L) token ids, the tokenizer's for plain class names. A shorter `context_length` will do.
            normalize: Whether to scale to length 1; None: open_clip's own default for this model.

        Returns:
            (C, D).

        Raises:
            ValueError: If a text has no end token, does not fit with the prompts in, or holds unknown ids.
            TypeError: If they are no token ids.
        """
        base: Any = super()
        prompts = self._active_prompts("text")
        if prompts is None:
            prompts = prompts_where_needed(self, text, check=self.prompts.enabled)
        if prompts is None:
            return base.encode_text(text) if normalize is None else base.encode_text(text, normalize=normalize)
        features, _ = run_tower(text_tower(self), text, prompts)
        return F.normalize(features, dim=-1) if self._normalizes(normalize) else features

    def forward(
        self,
        video: Tensor | None = None,
        text: Tensor | None = None,
        *,
        image: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Any:
        """What open_clip's own forward returns, for videos or images and texts.

        Args:
            video: (B, T, 3, H, W), or images (B, 3, H, W); None: the features are None.
            text: (C, L) token ids; None: the features are None.
            image: (B, 3, H, W), or a video: open_clip's name of the same argument.
            frame_mask: (B, T) bool, False where a frame is padding.

        Returns:
            Image features (B, D) and text features (C, D), normalised, the logit scale and the logit bias if there is
            one: a tuple, or a dict where `output_dict` is set.

        Raises:
            ValueError: If both `video` and `image` are given, a mask without a video, or what the `encode_...` refuse.
            TypeError: If an input is one that they refuse.
        """
        frames = frames_of(video, image, frame_mask)
        image_features = None
        if frames is not None and frames.ndim == 4:
            image_features = self.encode_image(frames, normalize=True)
        elif frames is not None:
            image_features = self.encode_video(frames, frame_mask=frame_mask, normalize=True)
        outputs: dict[str, Any] = {
            "image_features": image_features,
            "text_features": None if text is None else self.encode_text(text, normalize=True),
            "logit_scale": self.logit_scale.exp(),
        }
        if getattr(self, "logit_bias", None) is not None:
            outputs["logit_bias"] = self.logit_bias
        return outputs if self.output_dict else tuple(outputs.values())

    def layer_prompts(self) -> LayerPrompts:
        """The prompt that enters each layer of both towers under the current adapter (Eq. 10 and 11), graph attached.

        Returns:
            Two lists, with an (n, d) prompt for each layer, or None where nothing fresh enters.

        Raises:
            ValueError: If no adapter is active.
        """
        return LayerPrompts(self.prompts.tower_prompts("text"), self.prompts.tower_prompts("vision"))

    def encode_text_without_prompts(self, text: Tensor) -> Tensor:
        """What the frozen model makes of token ids: (C, L) -> (C, D), normalised."""
        prompts = prompts_where_needed(self, text, check=True)
        if prompts is None:
            return self._encode_text_as_open_clip(text)
        features, _ = run_tower(text_tower(self), text, prompts)
        return F.normalize(features, dim=-1)

    def train(self, mode: bool = True) -> Any:
        """Sets the training mode, except of batch norms: their statistics are frozen too."""
        super().train(mode)
        freeze_statistics(self)
        return self

    def _encode_frames(self, frames: Tensor, prompts: list[Tensor | None] | None) -> tuple[Tensor]:
        if prompts is not None:
            features, _ = run_tower(vision_tower(self), frames, prompts)
            return (features,)
        # Contrastive attention pooling leaves a dimension for its one query where there are no prompts.
        return (self.encode_image(frames, normalize=False).flatten(1),)

    def _encode_text_as_open_clip(self, text: Tensor) -> Tensor:
        base: Any = super()
        return base.encode_text(text, normalize=True)

    def _normalizes(self, normalize: bool | None) -> bool:
        return self.normalizes_by_default if normalize is None else normalize

    def _check_frames(self, name: str, frames: Any, rank: int) -> None:
        tower = vision_tower(self)
        # Towers of no known family may well take other sizes than their own.
        check_frames(name, frames, rank, None if tower is None else tower.image_size)
        patches = next((module for module in self.visual.modules() if isinstance(module, nn.Conv2d)), None)
        if patches is not None:
            check_placed(name, frames, patches.weight)

    def _check_video(self, video: Any, frame_mask: Any) -> None:
        self._check_frames("video", video, 5)
        check_frame_mask(frame_mask, video)

    def _active_prompts(self, tower: str) -> list[Tensor | None] | None:
        if not self.prompts.enabled:
            return None
        prompts = self.prompts.tower_prompts(tower)
        return prompts if any(prompt is not None for prompt in prompts) else None

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str) -> None:
        # PEFT calls this after loading with low_cpu_mem_usage.
        self.prompts.to(self.logit_scale.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        check_state_dict(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def prompted_model(wrapped: Any) -> PromptedModel:
    """The open_clip object with its prompts, in the PEFT model around it or by itself."""
    model = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else wrapped
    if not isinstance(model, PromptedModel):
        raise TypeError(f"expected a model that wrap() returned, still wrapped, got {type(wrapped).__name__}")
    return model


def freeze_statistics(model: nn.Module) -> None:
    """Puts batch norms into eval mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training = False


def check_state_dict(keys: Iterable[str], prefix: str) -> None:
    """Refuses prompts that come with tensors of something else than the model (ValueError).

    PEFT saves the tensors of all tuners in a model with each: a LoRA's file would overwrite prompts without a word.
    """
    inside = [key.removeprefix(prefix) for key in keys]
    prompts = [key for key in inside if key.startswith("prompts.")]
    if prompts and len(prompts) < len(inside) and "logit_scale" not in inside:
        raise ValueError(
            f"what is loaded has the tensors of an adapter of another kind, and prompts ({prompts[0]}, ...), which "
            "would replace those of the model: PEFT saves them along. Load that adapter before the prompts (wrap the "
            "model after it), or load the two in two calls"
        )
