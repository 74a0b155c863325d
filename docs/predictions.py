"""Classifies the MP4 clips of `examples/data` with frozen CLIP and with the quickstart's prompts, for the pictures.

After the quickstart, `python -m docs.predictions quickstart-out/adapter` writes `docs/predictions.json`, and
`python -m docs.gallery` draws it. The clips show the kind of person that the quickstart's training did not show.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import torch

import vilt_prompt
from examples.data.clips import read_manifest
from examples.predict import classify, load_videos

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_suffix(".json")
FRAMES, PERSON = 4, "person"  # as in the quickstart


class Prediction(NamedTuple):
    """What both models say about one clip: probabilities by class name."""

    file: str
    label: str
    split: str
    zero_shot: dict[str, float]
    trained: dict[str, float]

    def answers(self) -> tuple[str, str]:
        """The most likely class before and after training."""
        before, after = (max(found, key=found.__getitem__) for found in (self.zero_shot, self.trained))
        return before, after


def read() -> list[Prediction]:
    """The predictions that are kept."""
    return [Prediction(**row) for row in json.loads(FILE.read_text())]


def predict(adapter: str) -> list[Prediction]:
    """Classifies every clip among the names of its own split, base or novel."""
    model, preprocess, tokenizer = vilt_prompt.create_model_and_transforms(adapter)
    manifest = read_manifest(ROOT / "examples/data")
    found = []
    for split in ("base", "novel"):
        names = sorted({row.label for row in manifest if row.split == split})
        clips = [row for row in manifest if (row.split, row.person, row.has_alpha) == (split, PERSON, False)]
        videos = load_videos([clip.file for clip in clips], FRAMES, preprocess)
        with torch.no_grad():
            trained = classify(model, videos, model.encode_text(tokenizer(names), normalize=True))
        with model.disable_adapter():
            zero_shot = classify(model, videos, vilt_prompt.scenario_features(model, tokenizer, names))
        for clip, *rows in zip(clips, zero_shot, trained, strict=True):
            before, after = ({n: round(p, 3) for n, p in zip(names, row.tolist(), strict=True)} for row in rows)
            found.append(Prediction(clip.file.name, clip.label, split, before, after))
    return found


if __name__ == "__main__":
    rows = [prediction._asdict() for prediction in predict(sys.argv[1])]
    FILE.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
