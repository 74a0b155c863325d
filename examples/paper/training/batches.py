"""Batches of decoded clips: which frames and crops, in which order; the same after a restart as without one.

Every random draw comes from the seed, the epoch and the number of the video, never from the state of a process.

Shapes: B videos, V views, T frames.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from examples.startup import ranks
from examples.video.decoding import read_video
from examples.video.sampling import crop_boxes, dense_frame_views, frame_views, sample_dense_frames, sample_frames

Preprocess = Callable[[Image.Image], Tensor]
# A damaged disk or a wrong mount shows in every video: do not try them all.
TRIES = 100


class Views(NamedTuple):
    """How often a video is looked at: V = temporal x spatial."""

    temporal: int = 1
    spatial: int = 1


ONE_VIEW = Views()


class Item(NamedTuple):
    """One clip; `video` is None where it, or all that stand in for it, cannot be decoded."""

    video: Tensor | None
    number: int
    failures: tuple[str, ...]
    damage: str | None = None


class Batch(NamedTuple):
    """Several clips.

    Attributes:
        videos: (B, T, 3, H, W) for training, (B, V, T, 3, H, W) for testing; None: none of the batch can be decoded.
        numbers: Which videos they are, (B,).
        failures: A line for each that cannot be decoded.
        damages: A line for each that can be decoded in part.
    """

    videos: Tensor | None
    numbers: Tensor
    failures: tuple[str, ...]
    damages: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvalClips(Dataset[Item]):
    """Clips for testing: fixed frames and crops, V views.

    Attributes:
        paths: Files.
        frames: T.
        preprocess: The model's transform of pictures.
        stride: Distance of frames in a window; None: one frame from each of T segments.
        views: How often a video is looked at.
    """

    paths: Sequence[Path]
    frames: int
    preprocess: Preprocess
    stride: int | None = None
    views: Views = ONE_VIEW

    def __len__(self) -> int:
        """Videos."""
        return len(self.paths)

    def __getitem__(self, number: int) -> Item:
        """The clip of a video, (V, T, 3, H, W): temporal views one after the other, their spatial views together."""
        try:
            pictures, damage = read_video(self.paths[number], self._choose)
        except (OSError, ValueError) as error:
            return Item(None, number, (str(error),))
        views = []
        for start in range(0, len(pictures), self.frames):
            view = pictures[start : start + self.frames]
            if self.views.spatial > 1:
                views += [[f.crop(box) for f in view] for box in crop_boxes(*view[0].size, self.views.spatial)]
            else:
                views.append(view)
        return Item(torch.stack([_stack(view, self.preprocess) for view in views]), number, (), damage)

    def _choose(self, total: int) -> Tensor:
        if self.stride is None:
            return frame_views(total, self.frames, self.views.temporal)
        return dense_frame_views(total, self.frames, self.stride, self.views.temporal)


@dataclass(frozen=True)
class TrainingClips(Dataset[Item]):
    """Clips for training: other frames and another crop in every epoch; the next video stands in for a damaged one.

    Attributes:
        paths: Files.
        frames: T.
        preprocess: The model's transform of pictures.
        seed: Of all draws.
        stride: Distance of frames in a window; None: one frame from each of T segments.
        flip: Whether to mirror half of the clips; wrong where classes tell left from right.
    """

    paths: Sequence[Path]
    frames: int
    preprocess: Preprocess
    seed: int
    stride: int | None = None
    flip: bool = False

    def __len__(self) -> int:
        """Videos."""
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """The clip of (epoch, video), (T, 3, H, W)."""
        epoch, number = key
        failures: dict[Path, str] = {}
        for step in range(len(self.paths)):
            candidate = (number + step) % len(self.paths)
            if self.paths[candidate] in failures:
                continue  # A video stands there once for each of its captions.
            if len(failures) == TRIES:
                break
            generator = Generator().manual_seed(_seed(self.seed, epoch, candidate))
            try:
                choose = functools.partial(self._choose, generator=generator)
                pictures, damage = read_video(self.paths[candidate], choose)
            except (OSError, ValueError) as error:
                failures[self.paths[candidate]] = str(error)
            else:
                clip = _stack(self._augment(pictures, generator), self.preprocess)
                return Item(clip, candidate, tuple(failures.values()), damage)
        return Item(None, number, tuple(failures.values()))

    def _choose(self, total: int, generator: Generator) -> Tensor:
        if self.stride is None:
            return sample_frames(total, self.frames, generator)
        return sample_dense_frames(total, self.frames, self.stride, generator)

    def _augment(self, pictures: list[Image.Image], generator: Generator) -> list[Image.Image]:
        """One random square of half to all of the largest one's area, the same in all frames; perhaps mirrored."""
        width, height = pictures[0].size
        area, x, y, mirror = torch.rand(4, generator=generator).tolist()
        side = max(1, round(min(width, height) * (0.5 + 0.5 * area) ** 0.5))
        left, top = round(x * (width - side)), round(y * (height - side))
        pictures = [picture.crop((left, top, left + side, top + side)) for picture in pictures]
        if self.flip and mirror < 0.5:
            pictures = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in pictures]
        return pictures


class TrainOrder(Sampler[list[tuple[int, int]]]):
    """Batches of one epoch at a time, in an order that the seed and the epoch decide, for this process.

    Attributes:
        epoch: The one to iterate over.
        first: The batch to begin with: after a restart, the one after the last that counted.
    """

    def __init__(self, videos: int, batch: int, seed: int) -> None:
        if batch < 1 or batch % ranks.world_size():
            raise ValueError(
                f"a batch of {batch} cannot be shared by {ranks.world_size()} processes: choose a multiple"
            )
        self.videos, self.batch, self.seed = videos, batch, seed
        self.epoch = self.first = 0

    def __len__(self) -> int:
        """Batches of a whole epoch; the last may be smaller, none is dropped."""
        return -(-self.videos // self.batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """This process's part of each batch: (epoch, video) pairs."""
        generator = Generator().manual_seed(_seed(self.seed, self.epoch))
        order = torch.randperm(self.videos, generator=generator).tolist()
        while len(order) % ranks.world_size():  # A process without a part would leave the others waiting.
            order.append(order[len(order) % self.videos])
        for start in range(self.first * self.batch, len(order), self.batch):
            part = order[start : start + self.batch][ranks.rank() :: ranks.world_size()]
            yield [(self.epoch, number) for number in part]


def train_loader(clips: TrainingClips, batch: int, workers: int) -> tuple[DataLoader[Item], TrainOrder]:
    """Batches for training, and what decides their order. `batch` counts the videos of all processes together."""
    order = TrainOrder(len(clips), batch, clips.seed)
    return _loader(clips, workers, batch_sampler=order), order


def eval_loader(clips: EvalClips, batch: int, workers: int) -> DataLoader[Item]:
    """Batches for testing: every video in just one process, none twice, none dropped."""
    mine = list(range(ranks.rank(), len(clips), ranks.world_size()))
    views = clips.views.temporal * clips.views.spatial
    return _loader(clips, workers, sampler=mine, batch_size=max(1, batch // ranks.world_size() // views))


def _loader(clips: Dataset[Item], workers: int, **how: object) -> DataLoader[Item]:
    return DataLoader(
        clips,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        # Its seeds for workers, which nothing here uses, would otherwise move the global generator on.
        generator=Generator(),
        **how,  # type: ignore[arg-type]
    )


def _collate(items: list[Item]) -> Batch:
    good = [(item.video, item.number) for item in items if item.video is not None]
    failures = tuple(line for item in items for line in item.failures)
    if not good:
        return Batch(None, torch.tensor([], dtype=torch.long), failures)
    damages = tuple(item.damage for item in items if item.damage is not None)
    videos, numbers = zip(*good, strict=True)
    return Batch(torch.stack(videos), torch.tensor(numbers), failures, damages)


def _stack(pictures: list[Image.Image], preprocess: Preprocess) -> Tensor:
    return torch.stack([preprocess(picture) for picture in pictures])


def _seed(*parts: int) -> int:
    """One number for several, the same in every process (`hash` of a text is not)."""
    number = 0
    for part in parts:
        number = (number * 1_000_003 + part + 1) % 2**63
    return number
