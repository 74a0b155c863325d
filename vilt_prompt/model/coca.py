"""The prompted CoCa, whose caption decoder reads the tokens of both encoders.

Shapes: B batch, T frames, C texts, L their columns, D features.
"""

from __future__ import annotations

from typing import Any

from open_clip import coca_model
from torch import Tensor
from torch.nn import functional as F

from vilt_prompt.model.prompted import PromptedModel
from vilt_prompt.model.video import check_video_or_images, encode_each_frame, mean_over_frames, passed_frames
from vilt_prompt.towers.families import known_tower, run_tower


class PromptedCoCa(PromptedModel):
    """Mixin over `CoCa`. Its caption decoder has no prompts of its own, but the tokens that it reads are prompted."""

    normalizes_by_default = True

    def forward(  # type: ignore[override]  # the texts of a CoCa are never packed
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
        """Encode videos or images, and texts, and return what CoCa's own forward returns.

        The decoder reads the mean over the frames of each image token, as the features are a mean over the frames.

        Args:
            video: (B, T, 3, H, W), or images (B, 3, H, W); None: `image_latent` and `image_embs` are given.
            text: (C, L) token ids, or None.
            image_latent: (B, D), the features of images that were encoded before.
            image_embs: (B, l, d), their tokens.
            output_labels: Whether the labels of the captions are returned too.
            image: Images (B, 3, H, W) or videos (B, T, 3, H, W): another name of `video`, for open_clip's callers.
            frame_mask: (B, T) bool, False where a frame is padding.

        Returns:
            A tuple, or a dict if the model's `output_dict` is set.

        Raises:
            ValueError: If there is no image, or `encode_video`, `encode_image` or `encode_text` refuses its input.
            TypeError: If an input is not a tensor of the right type.
        """
        base: Any = super(PromptedModel, self)
        frames = passed_frames(video, image)
        check_video_or_images(frames, frame_mask)
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

    def generate(self, *args: Any, **kwargs: Any) -> Tensor:
        """Generate captions, with the arguments of open_clip's `CoCa.generate`.

        Raises:
            ValueError: If the installed transformers lacks the beam search of open_clip, which version 5 has removed.
        """
        if not coca_model._has_transformers:
            raise ValueError(
                "open_clip's CoCa.generate needs BeamSearchScorer, which transformers 5 has removed: install "
                '"transformers<5", or choose each next token from the logits of forward(image, text)'
            )
        base: Any = super()
        return base.generate(*args, **kwargs)

    def _encode_image(self, images: Tensor, normalize: bool = True) -> tuple[Tensor, Tensor]:
        base: Any = super()
        prompts = self._active_prompts("vision")
        if prompts is None:
            return base._encode_image(images, normalize=normalize)
        self._check_frames("image", images, 4)
        features, tokens = run_tower(known_tower(self._vision_tower()), images, prompts, with_tokens=True)
        assert tokens is not None
        return F.normalize(features, dim=-1) if normalize else features, tokens

    def _encode_text(self, text: Tensor, normalize: bool = True) -> tuple[Tensor, Tensor]:
        base: Any = super()
        prompts = self._active_prompts("text")
        if prompts is None:
            return base._encode_text(text, normalize=normalize)
        features, tokens = run_tower(known_tower(self._text_tower()), text, prompts, with_tokens=True)
        assert tokens is not None
        return F.normalize(features, dim=-1) if normalize else features, tokens

    def _encode_frames_with_tokens(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return self._encode_image(frames, normalize=False)

    def _encode_text_as_open_clip(self, text: Tensor) -> Tensor:
        # CoCa's own encode_text calls `_encode_text`, which would put the prompts in.
        base: Any = super(PromptedModel, self)
        features, _ = base._encode_text(text, normalize=True)
        return features
