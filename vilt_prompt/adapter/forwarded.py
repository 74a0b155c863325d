"""The methods of the open_clip model that the PEFT model forwards, declared for editors and type checkers.

At run time PEFT looks up unknown attributes in the model inside, so nothing is defined here.

Shapes: B batch, T frames, C texts, L token columns, D features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from vilt_prompt.prompts import LayerPrompts
from vilt_prompt.towers.packing import PackedTexts


class Forwarded:
    """Declarations of the methods that a `PromptPeftModel` forwards to the `PromptedModel` inside."""

    if TYPE_CHECKING:
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
            """Features of videos: (B, T, 3, H, W) -> (B, D), or (B, T, D) with `pool=False`.

            The same as `PromptedModel.encode_video`.
            """

        def encode_image(self, image: Tensor, normalize: bool | None = None) -> Tensor:
            """Features of images: (B, 3, H, W) -> (B, D). The same as `PromptedModel.encode_image`."""

        def encode_text(self, text: Tensor | PackedTexts, normalize: bool | None = None) -> Tensor:
            """Features of texts: token ids (C, L) -> (C, D). The same as `PromptedModel.encode_text`."""

        def pack_text(self, text: Tensor) -> PackedTexts | Tensor:
            """Token ids (C, L) packed, for a compiled function. The same as `PromptedModel.pack_text`."""

        def forward(
            self,
            video: Tensor | None = None,
            text: Tensor | PackedTexts | None = None,
            *,
            image: Tensor | None = None,
            frame_mask: Tensor | None = None,
        ) -> Any:
            """The outputs of open_clip's own forward. The same as `PromptedModel.forward`."""

        def layer_prompts(self) -> LayerPrompts:
            """The prompt that enters each layer of both towers. The same as `PromptedModel.layer_prompts`."""
