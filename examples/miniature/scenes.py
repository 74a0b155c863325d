"""The test scenes of all cut-outs, rendered once, and the frozen model's features of them.

Every clip has three scenes for testing, and one that retrieval trains on. A scene depends on its clip and its number
alone, so that all runs, on any machine, see the same ones.

Shapes: N clips, R scenes of each, T frames, S by S pixels, D features.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from examples.data.clips import Clip, read_alpha
from examples.miniature.wild import Dice, wild
from examples.startup.base_model import ClipModel
from examples.video.sampling import sample_frames

FRAMES = 4
TRAINING = [0]  # numbers of scenes
TESTS = [1, 2, 3]


@dataclass(frozen=True)
class Scenes:
    """Scenes in memory.

    Attributes:
        pixels: uint8 (N, R, T, 3, S, S).
        features: Of the frozen model, not normalised, (N, R, D).
        normalize: The model's own mean and standard deviation.
    """

    pixels: Tensor
    features: Tensor
    normalize: nn.Module

    def videos(self, clips: Sequence[int], numbers: Sequence[int]) -> Tensor:
        """Some scenes of some clips, ready for the model: all of the first clip, all of the second, ..."""
        chosen = self.pixels[list(clips)][:, list(numbers)].flatten(0, 1)
        videos: Tensor = self.normalize(chosen / 255)
        return videos

    def frozen(self, clips: Sequence[int], numbers: Sequence[int]) -> Tensor:
        """The frozen model's features of the same, (len(clips) * len(numbers), D)."""
        return self.features[list(clips)][:, list(numbers)].flatten(0, 1)


def scenes(clips: Sequence[Clip], clip_model: ClipModel, normalize: nn.Module, file: Path) -> Scenes:
    """Render all scenes, or read the scenes that an earlier process left in a file.

    Raises:
        ValueError: If the file has scenes of other clips.
    """
    names = [clip.file.name for clip in clips]
    if not file.is_file():
        size = clip_model.visual.image_size[0]
        pixels = torch.stack([render(clip.file, size) for clip in tqdm(clips, desc="rendering", unit="clip")])
        features = frozen_features(clip_model, pixels, normalize)
        new = file.with_suffix(".new")
        torch.save({"names": names, "pixels": pixels, "features": features}, new)
        new.replace(file)  # whoever reads finds all or nothing
    found = torch.load(file, mmap=True, weights_only=True)
    if found["names"] != names:
        raise ValueError(f"{file} has scenes of other clips: remove it, or choose another --out")
    return Scenes(found["pixels"], found["features"], normalize)


def render(file: Path, size: int) -> Tensor:
    """All scenes of one cut-out, uint8 (R, T, 3, S, S)."""
    frames = read_alpha(file)
    frames = frames[sample_frames(len(frames), FRAMES)]
    # Python's own hash of a text differs between processes.
    seed = zlib.crc32(file.name.encode())
    rendered = [wild(frames[None], size, Dice(seed + number))[0] for number in TRAINING + TESTS]
    return (torch.stack(rendered) * 255).round().to(torch.uint8)


@torch.no_grad()
def frozen_features(clip_model: ClipModel, pixels: Tensor, normalize: nn.Module) -> Tensor:
    """Means over the frames of the unnormalised features, (N, R, D)."""
    parts = []
    for part in tqdm(pixels.split(8), desc="frozen features", unit="batch"):
        frames = normalize(rearrange(part, "n r t c h w -> (n r t) c h w") / 255)
        parts.append(clip_model.encode_image(frames).unflatten(0, part.shape[:3]).mean(2))
    return torch.cat(parts)
