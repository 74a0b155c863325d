"""The scenes that runs train on: every epoch renders each shot again, as in the quickstart.

The scenes depend on the shots and a seed alone, so that all methods see the same ones.

Shapes: B clips, T frames, S by S pixels, D features, N shots.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from examples.data.clips import Clip, read_alpha
from examples.miniature.scenes import FRAMES
from examples.miniature.shots import Shots, Studio
from examples.miniature.tasks import Examples
from examples.miniature.wild import Dice
from examples.startup.base_model import ClipModel

EPOCHS = 30
BATCH = 30
PROBE_SCENES = 8  # of each shot


class TrainingScenes:
    """Renders shots into new scenes, and keeps the frozen model's features of the last shots that were asked for.

    Args:
        clips: All cut-outs; examples hold numbers into them.
        clip_model: The frozen open_clip model.
        normalize: The model's own mean and standard deviation.
    """

    def __init__(self, clips: Sequence[Clip], clip_model: ClipModel, normalize: nn.Module) -> None:
        self.clips, self.clip_model, self.normalize = clips, clip_model, normalize
        self._alpha: dict[int, Tensor] = {}  # uint8 (F, 4, H, W) by the number of the clip
        self._kept: tuple[object, list[tuple[Tensor, Tensor]]] = (None, [])

    def steps(self, examples: Examples) -> int:
        """The number of batches in all epochs."""
        return EPOCHS * -(-len(examples.clips) // BATCH)

    def batches(self, examples: Examples, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All batches of all epochs: videos (B, T, 3, S, S), ready for the model, and labels (B,)."""
        loader = self._studio(seed).loader(self._shots(examples), BATCH)
        for _ in range(EPOCHS):
            yield from loader

    def frozen_batches(self, examples: Examples, seed: int) -> list[tuple[Tensor, Tensor]]:
        """The same batches as features of the frozen model, (B, D), not normalised."""
        asked_for = (tuple(examples.clips), tuple(examples.labels), seed, EPOCHS)
        if self._kept[0] != asked_for:
            batches = [(self._features(videos), labels) for videos, labels in self.batches(examples, seed)]
            self._kept = (asked_for, batches)
        return self._kept[1]

    def frozen(self, examples: Examples, seed: int, scenes: int) -> Tensor:
        """Frozen features of new scenes of each example, not normalised, (scenes * N, D): all N, then all again."""
        videos = self._studio(seed).scenes(self._shots(examples), scenes)
        return torch.cat([self._features(part) for part in videos.split(BATCH)])

    def _studio(self, seed: int) -> Studio:
        return Studio(FRAMES, self.clip_model.visual.image_size[0], self.normalize, Dice(seed))

    def _shots(self, examples: Examples) -> Shots:
        for number in examples.clips:
            if number not in self._alpha:
                self._alpha[number] = read_alpha(self.clips[number].file)
        frames = torch.stack([self._alpha[number] for number in examples.clips])
        return Shots(frames, torch.tensor(examples.labels), examples.persons, examples.classes)

    @torch.no_grad()
    def _features(self, videos: Tensor) -> Tensor:
        """Means over the frames of the frozen features, (B, D)."""
        features: Tensor = self.clip_model.encode_image(videos.flatten(0, 1)).unflatten(0, videos.shape[:2]).mean(1)
        return features
