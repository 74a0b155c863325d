"""The prompted open_clip model: how an open_clip model becomes one in place, and what its methods are then.

It is given a subclass of its own class, as `fully_shard` does: all names stay what they were.

Shapes: B batch, T frames, C texts, L their columns, D features.
"""

from __future__ import annotations

import functools
from typing import Any

from open_clip import CoCa
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.adapter.layer import PromptLayer
from vilt_prompt.adapter.other_adapters import check_state_dict
from vilt_prompt.checks import check_count, check_placed
from vilt_prompt.model.video import check_frame_mask, check_frames, encode_each_frame, mean_over_frames
from vilt_prompt.prompts import LayerPrompts
from vilt_prompt.towers.families import prompts_where_needed, run_tower, text_tower, vision_tower

_PROMPTED: dict[type[nn.Module], type[nn.Module]] = {}


class PromptedModel(nn.Module):
    """Mixin over an open_clip model; its child `prompts` holds the adapters."""

    normalizes_by_default = False
    prompts: PromptLayer
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
        frames = one_of(video, image, frame_mask)
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


class PromptedCoCa(PromptedModel):
    """Mixin over `CoCa`. Its caption decoder has no prompts; what it reads is prompted."""

    normalizes_by_default = True

    def forward(
        self,
        video: Tensor | None = None,
        text: Tensor | None = None,
        image_latent: Tensor | None = None,
        image_embs: Tensor | None = None,
        output_labels: bool = True,
        *,
        image: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Any:
        """What CoCa's own forward returns, for videos (B, T, 3, H, W) or images (B, 3, H, W) and token ids (C, L).

        The decoder reads the mean over the frames of each image token, as the features are a mean over the frames.

        Raises:
            ValueError: If there is no image, or an input is one that the model's `encode_...` refuse.
            TypeError: If an input is one that they refuse.
        """
        base: Any = super(PromptedModel, self)
        frames = one_of(video, image, frame_mask)
        if frames is None and (image_latent is None or image_embs is None):
            raise ValueError(
                "CoCa's forward needs images or a video, or image_latent= and image_embs=: the decoder reads them. "
                "Features of texts alone are encode_text(text)"
            )
        if frames is not None and frames.ndim == 5 and (image_latent is None or image_embs is None):
            self._check_video(frames, frame_mask)
            encoded = encode_each_frame(self._encode_frames_with_tokens, frames, frame_mask)
            image_latent, image_embs = (mean_over_frames(part, frame_mask) for part in encoded)
            image_latent = F.normalize(image_latent, dim=-1)
        return base.forward(frames, text, image_latent, image_embs, output_labels)

    def _encode_image(self, images: Tensor, normalize: bool = True) -> tuple[Tensor, Tensor]:
        base: Any = super()
        prompts = self._active_prompts("vision")
        if prompts is None:
            return base._encode_image(images, normalize=normalize)
        self._check_frames("image", images, 4)
        features, tokens = run_tower(vision_tower(self), images, prompts, with_tokens=True)
        return F.normalize(features, dim=-1) if normalize else features, tokens

    def _encode_text(self, text: Tensor, normalize: bool = True) -> tuple[Tensor, Tensor]:
        base: Any = super()
        prompts = self._active_prompts("text")
        if prompts is None:
            return base._encode_text(text, normalize=normalize)
        features, tokens = run_tower(text_tower(self), text, prompts, with_tokens=True)
        return F.normalize(features, dim=-1) if normalize else features, tokens

    def _encode_frames_with_tokens(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return self._encode_image(frames, normalize=False)

    def _encode_text_as_open_clip(self, text: Tensor) -> Tensor:
        # CoCa's own encode_text comes back to `_encode_text`, with prompts.
        base: Any = super(PromptedModel, self)
        features, _ = base._encode_text(text, normalize=True)
        return features


def patch(model: Any) -> None:
    """Turns an open_clip model into a frozen `PromptedModel`."""
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    flags |= {name: module.training for name, module in model.named_modules()}
    model.requires_grad_(False)
    model.__class__ = _prompted(type(model))
    model.flags_before = flags
    model.prompts = PromptLayer()
    freeze_statistics(model)


def unpatch(model: Any) -> nn.Module:
    """Undoes `patch`: class, `requires_grad` of every parameter and training mode of every module as before."""
    flags = model.flags_before
    del model.prompts, model.flags_before
    model.__class__ = model.base_class
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(flags.get(name, parameter.requires_grad))
    for name, module in model.named_modules():
        module.training = flags.get(name, module.training)
    return model


def _prompted(cls: type[nn.Module]) -> Any:
    """One subclass for each open_clip class."""
    if cls not in _PROMPTED:
        mixin = PromptedCoCa if issubclass(cls, CoCa) else PromptedModel
        members = {"__module__": cls.__module__, "base_class": cls, "__reduce_ex__": _reduce}
        _PROMPTED[cls] = type(f"Prompted{cls.__name__}", (mixin, cls), members)
    return _PROMPTED[cls]


def _reduce(model: Any, protocol: Any) -> Any:
    # The class is made at run time, so copies and pickles name what it is made of.
    return _rebuild, (model.base_class,), model.__dict__


def _rebuild(cls: type[nn.Module]) -> Any:
    prompted = _prompted(cls)
    return prompted.__new__(prompted)


def prompted_model(wrapped: Any) -> PromptedModel:
    """The open_clip object with its prompts, in the PEFT model around it or by itself."""
    model = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else wrapped
    if not isinstance(model, PromptedModel):
        raise TypeError(f"expected a model that wrap() returned, still wrapped, got {type(wrapped).__name__}")
    return model


def one_of(video: Any, image: Any, frame_mask: Tensor | None) -> Tensor | None:
    """What `forward` got under one of its two names: videos (B, T, 3, H, W), images (B, 3, H, W), or None."""
    if video is not None and image is not None:
        raise ValueError("video and image are two names of one argument: pass one of them")
    frames = image if video is None else video
    if frames is None:
        if frame_mask is not None:
            raise ValueError("frame_mask was passed without a video: pass both, or neither")
        return None
    expected = "expected a video (B, T, 3, H, W) or images (B, 3, H, W)"
    if not isinstance(frames, Tensor):
        raise TypeError(f"{expected}, got {type(frames).__name__}")
    if frames.ndim not in (4, 5):
        raise ValueError(f"{expected}, got {tuple(frames.shape)}")
    if frames.ndim == 4 and frame_mask is not None:
        raise ValueError(f"frame_mask belongs to a video (B, T, 3, H, W), got images {tuple(frames.shape)}")
    return frames


def freeze_statistics(model: nn.Module) -> None:
    """Puts batch norms into eval mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training = False
