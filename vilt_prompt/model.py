"""The prompted open_clip model: what `encode_image`, `encode_text`, `encode_video` and `forward` become.

An open_clip model is patched in place by giving it a subclass of its own class, as `fully_shard` does: modules, names
of parameters, methods and attributes stay what they were, and taking the subclass away restores the model.

Shapes: B batch, T frames, C texts, L their columns, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.checks import check_count, is_readable
from vilt_prompt.foreign import check_state_dict
from vilt_prompt.prompts import LayerPrompts, PromptLayer
from vilt_prompt.towers import fit_text, text_tower, vision_tower


class PromptedModel(nn.Module):
    """Mixin over an open_clip model; its child `prompts` holds the adapters. Without an active one, open_clip's own."""

    prompts: PromptLayer
    flags_before: dict[str, bool]
    base_class: type[nn.Module]
    logit_scale: Tensor

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
            frame_mask: (B, T) bool, False where a frame is padding. Such frames are not computed (under `torch.compile`
                they are, and count for nothing).
            normalize: Whether to scale the features to length 1, after the mean.
            frames_per_chunk: How many frames run at once; None: all.
            pool: Whether to take the mean; otherwise the features of each frame are returned, 0 for masked ones.

        Returns:
            (B, D), or (B, T, D) with `pool=False`.

        Raises:
            ValueError: If the video or the mask is of another shape, empty, or a video is masked altogether.
            TypeError: If the video is not float or the mask not bool.
        """
        _check_frames("video", video, 5, self._image_size())
        batch, frames_each = video.shape[:2]
        _check_mask(frame_mask, batch, frames_each)
        check_count("frames_per_chunk", frames_per_chunk, "it must be at least 1, or None")
        frames = rearrange(video, "b t c h w -> (b t) c h w")
        mask = None if frame_mask is None else rearrange(frame_mask, "b t -> (b t) 1")
        if mask is None:
            features = self._encode_frames(frames, frames_per_chunk)
        elif is_readable(mask):
            kept = mask.squeeze(1)
            some = self._encode_frames(frames[kept], frames_per_chunk)
            features = some.new_zeros(len(kept), some.shape[1]).index_put((kept,), some)
        else:
            # Dropping frames makes a shape that depends on values, which a compiled graph cannot have. What stands in
            # masked frames must not reach the gradients all the same: NaN times 0 is NaN.
            frames = torch.where(rearrange(mask, "f 1 -> f 1 1 1"), frames, 0)
            features = torch.where(mask, self._encode_frames(frames, frames_per_chunk), 0)
        features = rearrange(features, "(b t) d -> b t d", b=batch)
        if pool:
            features = features.sum(dim=1) / (frames_each if frame_mask is None else frame_mask.sum(1, keepdim=True))
        return F.normalize(features, dim=-1) if normalize else features

    def encode_image(self, image: Tensor, normalize: bool | None = None) -> Tensor:
        """Features of images: (B, 3, H, W) -> (B, D). `normalize=None`: open_clip's own default for this model.

        Raises:
            ValueError: If the images are of another shape, or there are none.
            TypeError: If they are not float.
        """
        base: Any = super()
        prompts = self._active_prompts("vision")
        if self.prompts.enabled:
            _check_frames("image", image, 4, self._image_size())
        if prompts is None:
            return base.encode_image(image) if normalize is None else base.encode_image(image, normalize=normalize)
        features = vision_tower(self).encode(image, prompts)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool | None = None) -> Tensor:
        """Features of texts: token ids (C, L) -> (C, D). The prompts go in by themselves.

        Args:
            text: What the tokenizer returns for plain class names. A shorter `context_length` will do.
            normalize: Whether to scale the features to length 1; None: open_clip's own default for this model.

        Raises:
            ValueError: If a text has no end token, does not fit with the prompts in, or holds unknown ids.
            TypeError: If the texts are not integer token ids.
        """
        base: Any = super()
        prompts = self._active_prompts("text")
        if prompts is not None:
            features = text_tower(self).encode(text, prompts)
            return F.normalize(features, dim=-1) if normalize else features
        text = fit_text(self, text, check=self.prompts.enabled)
        return base.encode_text(text) if normalize is None else base.encode_text(text, normalize=normalize)

    def forward(
        self,
        video: Tensor | None = None,
        text: Tensor | None = None,
        *,
        image: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Any:
        """What open_clip's own forward returns, for videos (B, T, 3, H, W) or images (B, 3, H, W) and token ids.

        Returns:
            Normalised image features, normalised text features, the logit scale and, where the model has one, the
            logit bias: a tuple, or a dict where `output_dict` is set. So `open_clip.ClipLoss` works on it.

        Raises:
            ValueError: If both `video` and `image` are given, a mask is given without a video, or an input is one that
                `encode_video`, `encode_image` or `encode_text` refuses.
            TypeError: If an input is one that they refuse.
        """
        if video is not None and image is not None:
            raise ValueError("video and image are two names of one argument: pass one of them")
        frames = image if video is None else video
        if frames is None and frame_mask is not None:
            raise ValueError("frame_mask was passed without a video")
        image_features = None
        if isinstance(frames, Tensor) and frames.ndim == 4:
            if frame_mask is not None:
                raise ValueError(f"frame_mask belongs to a video (B, T, 3, H, W), got images {tuple(frames.shape)}")
            image_features = self.encode_image(frames, normalize=True)
        elif isinstance(frames, Tensor) and frames.ndim != 5:
            raise ValueError(f"expected a video (B, T, 3, H, W) or images (B, 3, H, W), got {tuple(frames.shape)}")
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
        """The (n, d) prompt that enters each layer of both towers under the active adapter, graph attached."""
        return LayerPrompts(self.prompts.tower_prompts("text"), self.prompts.tower_prompts("vision"))

    def encode_text_without_prompts(self, text: Tensor) -> Tensor:
        """What the frozen model itself makes of texts: token ids (C, L) -> (C, D), normalised."""
        base: Any = super()
        return base.encode_text(fit_text(self, text), normalize=True)

    def _encode_frames(self, frames: Tensor, frames_per_chunk: int | None) -> Tensor:
        chunks = frames.split(frames_per_chunk or len(frames))
        # Contrastive attention pooling leaves a dimension for its one query where there are no prompts.
        return torch.cat([self.encode_image(chunk, normalize=False).flatten(1) for chunk in chunks])

    def _image_size(self) -> tuple[int, int] | None:
        # Towers of no known family may well take other sizes than the one that they were made for.
        tower = vision_tower(self)
        return None if tower is None else tower.image_size

    def _active_prompts(self, tower: str) -> list[Tensor | None] | None:
        if not self.prompts.enabled:
            return None
        prompts = self.prompts.tower_prompts(tower)
        return prompts if any(prompt is not None for prompt in prompts) else None

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str) -> None:
        # PEFT calls this on every module after it loaded an adapter with low_cpu_mem_usage.
        self.prompts.to(self.logit_scale.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        check_state_dict(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time, so copies and pickles name what it is made of.
        return _rebuild, (self.base_class,), self.__dict__


_PROMPTED: dict[type[nn.Module], type[nn.Module]] = {}


def patch(model: Any) -> None:
    """Turns an open_clip model into a frozen `PromptedModel`, in place, and notes what `unpatch` has to restore."""
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    flags |= {name: module.training for name, module in model.named_modules()}
    model.requires_grad_(False)
    model.__class__ = _prompted(type(model))
    model.flags_before = flags
    model.prompts = PromptLayer()


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
    """One subclass for each open_clip class, so that wrapped models of one kind have one type."""
    if cls not in _PROMPTED:
        members = {"__module__": cls.__module__, "base_class": cls}
        _PROMPTED[cls] = type(f"Prompted{cls.__name__}", (PromptedModel, cls), members)
    return _PROMPTED[cls]


def _rebuild(cls: type[nn.Module]) -> Any:
    prompted = _prompted(cls)
    return prompted.__new__(prompted)


def _check_frames(name: str, frames: Any, rank: int, size: tuple[int, int] | None) -> None:
    expected = "(B, 3, H, W)" if rank == 4 else "(B, T, 3, H, W)"
    if not isinstance(frames, Tensor):
        raise TypeError(f"{name} must be a float tensor {expected}, got {type(frames).__name__}")
    if frames.ndim != rank:
        other = "encode_video" if frames.ndim == 5 else "encode_image" if frames.ndim == 4 else None
        raise ValueError(
            f"{name} must be of shape {expected}, got {tuple(frames.shape)}" + (f": use {other}" if other else "")
        )
    if not frames.is_floating_point():
        raise TypeError(f"{name} must be float, as open_clip's preprocess returns it, got {frames.dtype}")
    if frames.numel() == 0:
        raise ValueError(f"{name} is empty: its shape is {tuple(frames.shape)}")
    if frames.shape[-3] != 3:
        raise ValueError(f"{name} must have 3 channels, {expected}, got {tuple(frames.shape)}")
    if size is not None and tuple(frames.shape[-2:]) != tuple(size):
        raise ValueError(f"{name} must be of the model's size {size}, got {tuple(frames.shape)}: use its preprocess")


def _check_mask(mask: Tensor | None, batch: int, frames: int) -> None:
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"frame_mask must be a bool tensor (B, T), got {getattr(mask, 'dtype', type(mask).__name__)}")
    if mask.shape != (batch, frames):
        raise ValueError(f"frame_mask must be of shape (B, T) = ({batch}, {frames}), got {tuple(mask.shape)}")
    if is_readable(mask) and not mask.any(dim=1).all():
        row = int(mask.any(dim=1).int().argmin())
        raise ValueError(f"frame_mask masks every frame of video {row}: leave out the video, or keep a frame")
