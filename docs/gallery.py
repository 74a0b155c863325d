"""Draws `docs/hero.svg` and `docs/gallery.svg` from `docs/predictions.json`. Run `python -m docs.gallery`."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import torch

from docs.predictions import ROOT, Prediction, read
from examples.drawing import Drawing
from examples.video.decoding import read_frames

DOCS = Path(__file__).parent
WIDTH = 390
HERO = "climbing"
SHOWN = 4  # clips of each kind in the gallery
KINDS = {  # is zero-shot right, are the prompts right
    (False, True): "Training corrects {}",
    (True, False): "Training breaks {}",
    (False, False): "{} are wrong before and after",
}


def frames(file: str, number: int, size: int) -> list[bytes]:
    """Frames of a clip at equal distances, as small files."""
    pictures = read_frames(
        ROOT / "examples/data/mp4" / file, lambda total: (torch.arange(number) * 2 + 1) * total // (2 * number)
    )
    found = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.resize((size, size)).save(buffer, "WEBP", quality=80)
        found.append(buffer.getvalue())
    return found


def draw_hero(prediction: Prediction) -> Drawing:
    """One clip: its frames, the frozen encoders with their prompts, and what comes out before and after training."""
    drawing = Drawing(WIDTH, 402, f"A video of {prediction.label}, named by frozen CLIP and with trained prompts")
    for i, data in enumerate(frames(prediction.file, 4, 168)):
        drawing.image(15 + 91 * i, 14, 87, 87, data)
    middle = WIDTH / 2
    drawing.arrow([(middle, 106), (middle, 122)])
    drawing.rect(15, 126, 360, 112, fill="fill", radius=8)
    drawing.text(middle, 146, "CLIP stays frozen; only prompts are trained", size=13, at="middle", bold=True)
    for x, name, leads in ((32, "text encoder", 3), (209, "image encoder", 0)):
        drawing.text(x + 74, 229, name, size=12, at="middle", colour="soft")
        for layer in range(6):
            drawing.rect(x, 156 + 10 * layer, 148, 7, fill="page", radius=3)
            for place in range(10):
                is_prompt = 1 <= place <= 3 if leads else place >= 7
                colour = ("text" if layer < 3 else "vision") if is_prompt else "token"
                own = (layer < 3) == bool(leads)
                square = {"fill": colour if own or not is_prompt else "page", "edge": colour if is_prompt else "none"}
                drawing.rect(x + 7 + 14 * place, 157 + 10 * layer, 8, 5, radius=1, **square)
    drawing.arrow([(middle, 240), (middle, 256)])
    drawing.circle(24, 271, 5, fill="token")
    drawing.text(34, 275, "zero-shot", size=12)
    drawing.circle(116, 271, 5, fill="text")
    drawing.text(126, 275, "trained on 8 clips of each of 15 actions", size=12)
    likely = sorted(prediction.zero_shot, key=lambda name: -prediction.zero_shot[name] - prediction.trained[name])
    for row, name in enumerate(likely[:3]):
        y = 288 + 37 * row
        drawing.text(128, y + 19, name, size=12.5, at="end", bold=name == prediction.label)
        for line, (found, fill) in enumerate(((prediction.zero_shot, "token"), (prediction.trained, "text"))):
            length = max(1.5, 190 * found[name])
            drawing.rect(138, y + 15 * line, length, 13, fill=fill, radius=2)
            drawing.text(138 + length + 5, y + 11 + 15 * line, f"{found[name]:.0%}", size=11.5)
    return drawing


def kinds(predictions: Iterable[Prediction]) -> dict[tuple[bool, bool], list[Prediction]]:
    """The predictions, grouped by which model is right: zero-shot, the trained prompts."""
    found: dict[tuple[bool, bool], list[Prediction]] = {}
    for prediction in predictions:
        before, after = (answer == prediction.label for answer in prediction.answers())
        found.setdefault((before, after), []).append(prediction)
    return found


def draw_gallery(predictions: list[Prediction]) -> Drawing:
    """Clips that training corrects, breaks, or leaves wrong: frames, the right name, and both answers."""
    drawing = Drawing(WIDTH, 0, "Clips that the trained prompts name right or wrong")
    drawing.text(14, 24, "First answer: zero-shot. Second: with trained prompts.", size=12, colour="soft")
    found, y = kinds(predictions), 18.0
    for kind, title in KINDS.items():
        rows = found.get(kind, [])
        shown = f" ({SHOWN} shown)" if len(rows) > SHOWN else ""
        drawing.text(14, y + 34, title.format(f"{len(rows)} of {len(predictions)} clips") + shown, size=13, bold=True)
        y += 46
        for prediction in rows[:SHOWN]:
            for i, data in enumerate(frames(prediction.file, 2, 112)):
                drawing.image(14 + 59 * i, y, 56, 56, data)
            novel = "" if prediction.split == "base" else " (novel)"
            drawing.text(144, y + 15, prediction.label + novel, size=12.5, bold=True)
            both = zip(prediction.answers(), (prediction.zero_shot, prediction.trained), kind, strict=True)
            for line, (answer, probabilities, is_right) in enumerate(both):
                mark, colour = ("\u2713", "text") if is_right else ("\u2717", "vision")
                drawing.text(144, y + 33 + 17 * line, mark, size=12, colour=colour)
                drawing.text(160, y + 33 + 17 * line, f"{answer} {probabilities[answer]:.0%}", size=11.5)
            y += 66
    drawing.height = round(y + 4)
    return drawing


def drawings() -> dict[Path, Drawing]:
    """Both pictures, with their files."""
    predictions = read()
    hero = next(prediction for prediction in predictions if prediction.label == HERO)
    return {DOCS / "hero.svg": draw_hero(hero), DOCS / "gallery.svg": draw_gallery(predictions)}


if __name__ == "__main__":
    for path, drawing in drawings().items():
        drawing.save(path)
