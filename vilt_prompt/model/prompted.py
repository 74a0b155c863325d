"""The prompted open_clip model: how it encodes videos, images and texts.

Shapes: B batch, T frames, C texts, L their columns, D features.
"""

from __future__ import annotations

import functools
from typing import Any

from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.checks import check_count
from vilt_prompt.model.batch_norms import freeze_statistics
from vilt_prompt.model.prompted_towers import PromptedTowers
from vilt_prompt.model.state_dict import check_state_dict
from vilt_prompt.model.video import check_video_or_images, encode_each_frame, mean_over_frames, passed_frames
from vilt_prompt.prompts import LayerPrompts
from vilt_prompt.towers.families import known_tower, run_tower
from vilt_prompt.towers.layers import Prompts
from vilt_prompt.towers.packing import PackedTexts, let_sizes_change


class PromptedModel(PromptedTowers):
    """The open_clip model inside a wrapped model: a mixin over its class, which `patch` adds in place.

    Attributes:
        base_class: The class of the model before.
        flags_before: `requires_grad` of each parameter and the training mode of each module before, by name.
        normalizes_by_default: Whether open_clip's own `encode_image` and `encode_text` normalise for this model.
    """

    normalizes_by_default = False
    base_class: type[nn.Module]
    flags_before: dict[str, bool]
    logit_scale: Tensor
    logit_bias: Tensor | None

    def encode_video(
        self,
        video: Tensor,
        *,
        frame_mask: Tensor | None = None,
        normalize: bool = False,
        frames_per_chunk: int | None = None,
        pool: bool = True,
    ) -> Tensor:
        """Encode videos: the mean over the frames of the unnormalised features of each frame (Eq. 4).

        Args:
            video: (B, T, 3, H, W), preprocessed frames.
            frame_mask: (B, T) bool, False where a frame is padding, which is left out of the mean.
            normalize: Whether to scale to length 1, after the mean.
            frames_per_chunk: How many frames run at once; None: all. The backward pass computes each chunk again, so
                that only one chunk's activations are in memory.
            pool: Whether to take the mean. Otherwise the features of each frame are returned, 0 for masked frames.

        Returns:
            (B, D), or (B, T, D) with `pool=False`.

        Raises:
            ValueError: If the video or the mask has another shape or is empty, or all frames of a video are masked.
            TypeError: If the video is not float, or the mask is not bool.
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
        """Encode images.

        Args:
            image: (B, 3, H, W), preprocessed.
            normalize: Whether to scale to length 1. None: open_clip's own default for this model.

        Returns:
            (B, D).

        Raises:
            ValueError: If the images have another shape, or the batch is empty.
            TypeError: If they are not float.
        """
        base: Any = super()
        prompts = self._active_prompts("vision")
        if self.prompts.enabled:
            self._check_frames("image", image, 4)
        if prompts is None:
            return base.encode_image(image) if normalize is None else base.encode_image(image, normalize=normalize)
        features, _ = run_tower(known_tower(self._vision_tower()), image, prompts)
        return F.normalize(features, dim=-1) if self._normalizes(normalize) else features

    def encode_text(self, text: Tensor | PackedTexts, normalize: bool | None = None) -> Tensor:
        """Encode texts. The prompts are put in for you.

        Args:
            text: (C, L) token ids, as the tokenizer gives them for plain class names. L may be less than the model's
                context length. Packed texts, the result of `pack_text`, are accepted too. The ids are read once:
                do not change the tensor later through `.data` or a NumPy array that shares its memory.
            normalize: Whether to scale to length 1. None: open_clip's own default for this model.

        Returns:
            (C, D).

        Raises:
            ValueError: If a text has no end token, does not fit together with the prompts, or has unknown ids.
            TypeError: If `text` is not an integer tensor.
        """
        base: Any = super()
        prompts = self._active_prompts("text")
        if prompts is None:
            if self.prompts.enabled:
                self._check_text(text)
            if self._open_clip_takes(text):
                return base.encode_text(text) if normalize is None else base.encode_text(text, normalize=normalize)
        features = self._run_text_tower(text, prompts)
        return F.normalize(features, dim=-1) if self._normalizes(normalize) else features

    def pack_text(self, text: Tensor) -> PackedTexts | Tensor:
        """Pack token ids, once before a compiled function, which cannot read their values.

        `encode_text` packs them itself when it runs eagerly. Compiled, it would run all columns of each text.

        Args:
            text: (C, L) token ids, as the tokenizer gives them for plain class names.

        Returns:
            C texts for `encode_text`: packed, or token ids (C, l) where this model's texts cannot be packed.

        Raises:
            ValueError: If a text has no end token, or has unknown ids.
            TypeError: If `text` is not an integer tensor.
        """
        self._check_text(text)
        packed = known_tower(self._text_tower()).pack(text) if self._can_run_texts() else text
        if packed is not text:  # the caller's own tensor stays as it is
            let_sizes_change(packed)
        return packed

    def forward(
        self,
        video: Tensor | None = None,
        text: Tensor | PackedTexts | None = None,
        *,
        image: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Any:
        """Encode videos or images, and texts, and return what open_clip's own forward returns.

        Args:
            video: (B, T, 3, H, W), or images (B, 3, H, W); None: the features are None.
            text: (C, L) token ids, or packed texts; None: the features are None.
            image: Images (B, 3, H, W) or videos (B, T, 3, H, W): another name of `video`, for open_clip's callers.
            frame_mask: (B, T) bool, False where a frame is padding.

        Returns:
            Image features (B, D) and text features (C, D), normalised, the logit scale, and the logit bias if the model
            has one: a tuple, or a dict if the model's `output_dict` is set.

        Raises:
            ValueError: If both `video` and `image` are given, there is a mask without a video, or `encode_video`,
                `encode_image` or `encode_text` refuses its input.
            TypeError: If an input is not a tensor of the right type.
        """
        frames = passed_frames(video, image)
        check_video_or_images(frames, frame_mask)
        image_features = None
        if frames is not None and frames.ndim == 4:
            image_features = self.encode_image(frames, normalize=True)
        elif frames is not None:
            image_features = self.encode_video(frames, frame_mask=frame_mask, normalize=True)
        outputs: dict[str, Tensor | None] = {
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
            Two lists with an (n, d) prompt for each layer, or None if no fresh prompt enters the layer.

        Raises:
            ValueError: If no adapter is active.
        """
        return LayerPrompts(self.prompts.tower_prompts("text"), self.prompts.tower_prompts("vision"))

    def encode_text_without_prompts(self, text: Tensor) -> Tensor:
        """The frozen model's text features.

        Args:
            text: (C, L) token ids.

        Returns:
            (C, D), normalised.

        Raises:
            ValueError: If a text has no end token, does not fit, or has unknown ids.
            TypeError: If `text` is not an integer tensor.
        """
        self._check_text(text)
        if self._open_clip_takes(text):
            return self._encode_text_as_open_clip(text)
        return F.normalize(self._run_text_tower(text, None), dim=-1)

    def train(self, mode: bool = True) -> Any:
        """Set the training mode. Batch norms stay in eval mode: their statistics are frozen as well."""
        super().train(mode)
        freeze_statistics(self)
        return self

    def _encode_frames(self, frames: Tensor, prompts: Prompts | None) -> tuple[Tensor]:
        if prompts is not None:
            features, _ = run_tower(known_tower(self._vision_tower()), frames, prompts)
            return (features,)
        # Without prompts, contrastive attention pooling leaves a dimension for its one query: [B 1 D].
        return (self.encode_image(frames, normalize=False).flatten(1),)

    def _encode_text_as_open_clip(self, text: Tensor) -> Tensor:
        base: Any = super()
        return base.encode_text(text, normalize=True)

    def _normalizes(self, normalize: bool | None) -> bool:
        return self.normalizes_by_default if normalize is None else normalize

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str) -> None:
        # PEFT calls this after loading with low_cpu_mem_usage.
        self.prompts.to(self.logit_scale.device)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        check_state_dict(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def prompted_model(wrapped: object) -> PromptedModel:
    """The prompted open_clip model inside a PEFT model, or the given object if it is one.

    Raises:
        TypeError: If it is neither.
    """
    model = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else wrapped
    if not isinstance(model, PromptedModel):
        raise TypeError(f"expected a model that wrap() returned, still wrapped, got {type(wrapped).__name__}")
    return model
