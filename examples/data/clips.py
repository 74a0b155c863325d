"""The clips that come with the examples, and their list."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor


@dataclass(frozen=True)
class Clip:
    """One row of `data/manifest.csv` or `data/cut_outs.csv`.

    Attributes:
        file: Its path.
        label: The action.
        split: base, which training sees, or novel, which it does not; empty in `cut_outs.csv`.
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


def read_manifest(folder: Path, name: str = "manifest.csv") -> list[Clip]:
    """Lists the clips in a folder that holds a `manifest.csv`, or another such list."""
    with (folder / name).open(newline="") as file:
        return [
            Clip(folder / row["file"], row["label"], row.get("split", ""), row["person"])
            for row in csv.DictReader(file)
        ]


def read_alpha(path: Path) -> Tensor:
    """Reads all frames of an animated cut-out, uint8 (T, 4, H, W): red, green, blue, alpha."""
    with Image.open(path) as file:
        pictures = [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(file)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
