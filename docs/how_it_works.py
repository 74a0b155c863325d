"""Draws `docs/how_it_works.svg`: both encoders layer by layer, and where each prompt comes from.

It is drawn from the library's own table of prompts. Run `python -m docs.how_it_works`.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from examples.drawing import Drawing
from examples.video.decoding import read_frames
from vilt_prompt import PromptConfig
from vilt_prompt.prompts import PromptTable, Source

LAYERS, K = 12, 6  # ViT-B/16, and the paper's split
CLIP = Path(__file__).resolve().parents[1] / "examples/data/mp4/juggling_1f939-1f3fe.mp4"
WIDTH = 390
LEFT, RIGHT, BAR = 12, 214, 164  # where the encoders start, and their width
PITCH, HEIGHT = 23, 19  # of the layers
SQUARE, STEP = 11, 14  # of the tokens
# The tokens of each encoder from left to right; P: prompts, of which three stand for n.
TOKENS = {"text": "sPPPnnne", "vision": "cppppppPPP"}
SAYS = {"text": "text prompts are learned", "vision": "image prompts are learned"}
MAP = {"text": "F", "vision": "F\u0303"}


def layers() -> PromptTable:
    """Which prompt enters which layer."""
    return PromptTable.of(PromptConfig(K=K).resolve(LAYERS, LAYERS), LAYERS, LAYERS)


def draw_layer(drawing: Drawing, tower: str, source: Source | None, number: int, y: float) -> None:
    """One layer of one encoder: its number and the tokens that enter it."""
    x = LEFT if tower == "text" else RIGHT
    drawing.rect(x, y, BAR, HEIGHT, fill="fill", radius=5)
    drawing.text(x + 14, y + HEIGHT / 2 + 4, str(number), size=11, colour="soft", at="middle")
    start, top = x + 27 + (14 if tower == "text" else -2), y + (HEIGHT - SQUARE) / 2
    for place, token in enumerate(TOKENS[tower]):
        if token != "P" or source is None:
            drawing.rect(start + STEP * place, top, SQUARE, SQUARE, fill="token", radius=2)
        else:
            own = source.leader == tower
            drawing.rect(
                start + STEP * place + 1, top + 1, SQUARE - 2, SQUARE - 2, fill=source.leader if own else "page",
                edge=source.leader, stroke=2, radius=2,
            )  # fmt: skip


def frames(number: int, size: int) -> list[bytes]:
    """Frames of a video, as small files."""
    pictures = read_frames(CLIP, lambda total: torch.arange(number) * total // number)
    found = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.resize((size, size)).save(buffer, "WEBP", quality=80)
        found.append(buffer.getvalue())
    return found


def draw() -> Drawing:
    """The picture: inputs on top, features at the bottom."""
    table = layers()
    drawing = Drawing(WIDTH, 560, "Where the prompts of ViLT-CLIP enter the two encoders of CLIP")
    left, right = LEFT + BAR / 2, RIGHT + BAR / 2
    for x, name in ((left, "text encoder"), (right, "image encoder")):
        drawing.text(x, 22, name, size=14, at="middle", bold=True)
    drawing.rect(left - 52, 34, 104, 30, edge="line", radius=6)
    drawing.text(left, 54, "\u201cjuggling\u201d", size=13, at="middle")
    for i, data in enumerate(frames(4, 72)):
        drawing.image(right - 78 + 40 * i, 31, 36, 36, data)
    y = 80.0
    for x in (left, right):
        drawing.arrow([(x, 68), (x, y)])
    for band, (first, last) in {"text": (1, K), "vision": (K + 1, LAYERS)}.items():
        y += 20
        says = f"Layers {first} to {last}: {SAYS[band]}"
        drawing.text(WIDTH / 2, y - 1, says, size=12.5, colour=band, at="middle", bold=True)
        y += 8
        middle = y + PITCH * (last - first + 1) / 2
        for number in range(first, last + 1):
            for tower, sources in (("text", table.text), ("vision", table.vision)):
                draw_layer(drawing, tower, sources[number - 1], number, y)
            ends = [(LEFT + BAR + 3, y + HEIGHT / 2), (RIGHT - 3, y + HEIGHT / 2)]
            drawing.arrow(ends if band == "text" else ends[::-1], colour=band)
            y += PITCH
        drawing.circle(WIDTH / 2, middle - 2, 12, fill="page", edge=band)
        drawing.text(WIDTH / 2, middle + 3, MAP[band], size=14, at="middle", bold=True)
    y += 16
    for x, feature, side in ((left, "class feature", 1), (right, "mean over the frames", -1)):
        drawing.arrow([(x, y - 20), (x, y)])
        drawing.text(x, y + 15, feature, size=12, at="middle")
        drawing.arrow([(x, y + 22), (x, y + 42), (WIDTH / 2 - side * 62, y + 42)])
    drawing.rect(WIDTH / 2 - 60, y + 28, 120, 28, edge="line", radius=6)
    drawing.text(WIDTH / 2, y + 47, "cosine similarity", size=12.5, at="middle")
    draw_legend(drawing, y + 82)
    drawing.height = round(y + 122)
    return drawing


def draw_legend(drawing: Drawing, y: float) -> None:
    """The meaning of the squares."""
    mapped = f"made from the other encoder's by {MAP['text']}, {MAP['vision']}"
    for x, fills, label in ((14, ("text", "vision"), "learned"), (108, ("page", "page"), mapped)):
        for i, (fill, edge) in enumerate(zip(fills, ("text", "vision"), strict=True)):
            drawing.rect(x + 14 * i, y - 10, SQUARE - 2, SQUARE - 2, fill=fill, edge=edge, stroke=2, radius=2)
        drawing.text(x + 31, y, label, size=12)
    drawing.rect(13, y + 11, SQUARE, SQUARE, fill="token", radius=2)
    drawing.text(45, y + 21, "CLIP's own: words, patches. CLIP is frozen.", size=12)


if __name__ == "__main__":
    draw().save(Path(__file__).with_suffix(".svg"))
