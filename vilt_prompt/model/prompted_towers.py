"""The two towers of a prompted model: finding them, checking their inputs, and running them.

Shapes: B batch, T frames, C texts, L their columns, n prompts in a layer, d width, D features.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from vilt_prompt.checks import check_placed
from vilt_prompt.model.video import check_frame_mask, check_frames
from vilt_prompt.towers.families import Families, known_tower, run_tower, text_module
from vilt_prompt.towers.interface import TextTower, VisionTower
from vilt_prompt.towers.layers import Prompts
from vilt_prompt.towers.packing import PackedTexts


class PromptSource(Protocol):
    """The source of a model's prompts: the layer that holds its adapters."""

    @property
    def enabled(self) -> bool:
        """Whether an adapter takes part in the forward pass."""

    def tower_prompts(self, tower: str) -> list[Tensor | None]:
        """The (n, d) prompt that enters each layer of the tower "text" or "vision". None: no fresh prompt."""

    def to(self, device: torch.device) -> object:
        """Move the parameters of all adapters."""


class PromptedTowers(nn.Module):
    """The two towers of a prompted model and their prompts, on which `PromptedModel` builds.

    It defines none of open_clip's methods, so `super()` in `PromptedModel` reaches the model's own class.

    Attributes:
        prompts: The child module that holds the adapters.
        families: The families of the model's two towers.
    """

    prompts: PromptSource
    families: Families
    visual: nn.Module

    # A tower is a view of its module that costs nothing to make, while its family is found once. If the model kept the
    # view of a `CLIP`, whose text tower is the model itself, the two would refer to each other, and `del model` would
    # no longer free the memory at once.
    def _vision_tower(self) -> VisionTower | None:
        family = self.families.vision
        return None if family is None else family(self.visual)

    def _text_tower(self) -> TextTower | None:
        family = self.families.text
        return None if family is None else family(text_module(self))

    def _run_text_tower(self, text: Tensor | PackedTexts, prompts: Prompts | None) -> Tensor:
        """Features (C, D) of token ids (C, L), not normalised. If `prompts` is None, no layer has a prompt."""
        tower = known_tower(self._text_tower())
        features, _ = run_tower(tower, text, [None] * tower.layers if prompts is None else prompts)
        return features

    def _can_run_texts(self) -> bool:
        """Whether the text tower belongs to a known family, and can run."""
        family = self.families.text
        return family is not None and family.refusal(text_module(self)) is None

    def _check_text(self, text: Tensor | PackedTexts) -> None:
        """Check token ids (C, L) that are encoded without prompts, if the text tower belongs to a known family."""
        if self._can_run_texts() and not isinstance(text, PackedTexts):
            known_tower(self._text_tower()).check(text)

    def _open_clip_takes(self, text: Tensor | PackedTexts) -> bool:
        """Whether texts without prompts are passed to open_clip's own forward, which encodes or refuses them.

        The library's own computation is used only for texts of a length that open_clip's forward does not take.
        """
        if isinstance(text, PackedTexts):
            return False
        if not self._can_run_texts() or not isinstance(text, Tensor) or text.ndim != 2:
            return True
        return known_tower(self._text_tower()).runs_alone(text.shape[1])

    def _check_frames(self, name: str, frames: Tensor, rank: int) -> None:
        tower = self._vision_tower()
        # Towers of unknown families may take other sizes than their own.
        check_frames(name, frames, rank, None if tower is None else tower.image_size)
        patches = next((module for module in self.visual.modules() if isinstance(module, nn.Conv2d)), None)
        if patches is not None:
            check_placed(name, frames, patches.weight)

    def _check_video(self, video: Tensor, frame_mask: Tensor | None) -> None:
        self._check_frames("video", video, 5)
        check_frame_mask(frame_mask, video)

    def _active_prompts(self, tower: str) -> Prompts | None:
        """The (n, d) prompt of each layer of a tower, or None if no layer has one."""
        if not self.prompts.enabled:
            return None
        prompts = self.prompts.tower_prompts(tower)
        return prompts if any(prompt is not None for prompt in prompts) else None
