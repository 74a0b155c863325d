"""The example's MP4 files as a PyTorch dataset, for loaders that several processes share."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from examples.data.clips import Clip
from examples.video.decoding import read_frames
from examples.video.sampling import sample_frames


class VideoDataset(Dataset[tuple[Tensor, int]]):
    """Decoded videos of some classes and persons, each a (T, 3, H, W) tensor with the number of its class.

    Args:
        manifest: All clips, from `read_manifest`.
        classes: The classes wanted, C names.
        persons: The persons wanted.
        preprocess: What open_clip gives with the model.
        frames: T.
        random: Whether to draw each frame from its segment, as training does, or take the centres.
    """

    def __init__(
        self,
        manifest: Sequence[Clip],
        classes: list[str],
        persons: Sequence[str],
        preprocess: Callable[[Image.Image], Tensor],
        frames: int = 4,
        random: bool = False,
    ) -> None:
        self.clips = [c for c in manifest if not c.has_alpha and c.label in classes and c.person in persons]
        self.classes = classes
        self.preprocess = preprocess
        self.frames = frames
        self.random = random

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decodes a video."""
        # Torch's own generator is the one that loaders seed differently in each of their workers.
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ()))) if self.random else None
        pictures = read_frames(self.clips[index].file, lambda total: sample_frames(total, self.frames, generator))
        video = torch.stack([self.preprocess(picture) for picture in pictures])
        return video, self.classes.index(self.clips[index].label)
