"""Video files, and the list of those that come with the examples."""

import csv
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from frames import sample_frames
from PIL import Image, ImageSequence
from torch import Generator, Tensor


@dataclass(frozen=True)
class Clip:
    """One row of `data/manifest.csv`.

    Attributes:
        file: Its path.
        label: The action.
        split: base, which training sees, or novel, which it does not.
        person: man, woman or person.
    """

    file: Path
    label: str
    split: str
    person: str

    @property
    def has_alpha(self) -> bool:
        """Whether this is a cut-out to be rendered, not a video file to be decoded."""
        return self.file.suffix == ".webp"


def read_manifest(folder: Path) -> list[Clip]:
    """Lists the clips in a folder that holds a `manifest.csv`."""
    with (folder / "manifest.csv").open(newline="") as file:
        return [Clip(folder / row["file"], row["label"], row["split"], row["person"]) for row in csv.DictReader(file)]


def read_video(path: Path, frames: int, generator: Generator | None = None) -> list[Image.Image]:
    """Decodes T frames of a video file, sampled as `sample_frames` does.

    Args:
        path: Any file that FFmpeg reads.
        frames: T, how many to take.
        generator: Source of the random draws; without one, the centres of T segments.

    Returns:
        T pictures, in order of time.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no video.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no video {path}.")
    try:
        with av.open(path) as container:
            # The header's count is an estimate in some files and missing in others: only decoding tells.
            total = sum(1 for _ in container.decode(video=0))
        wanted = sample_frames(total, frames, generator).tolist()
        pictures: dict[int, Image.Image] = {}
        with av.open(path) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    pictures[number] = Image.fromarray(frame.to_ndarray(format="rgb24"))
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise ValueError(f"{path} cannot be decoded as a video: {error}") from error
    return [pictures[number] for number in wanted]


def read_alpha(path: Path) -> Tensor:
    """Reads all frames of an animated cut-out, uint8 (T, 4, H, W): red, green, blue, alpha."""
    with Image.open(path) as file:
        pictures = [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(file)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
