"""Draws `docs/pairing.svg`: which layer of one tower goes with which of the other. Run `python -m docs.pairing`."""

from __future__ import annotations

from pathlib import Path

from examples.drawing import Drawing
from vilt_prompt import PromptConfig
from vilt_prompt.prompts import PromptTable

TEXT_LAYERS, VISION_LAYERS, K = 4, 8, 2
PANEL, WIDTH, HEIGHT, PITCH = 195, 68, 22, 29  # of a panel; of a layer, and from one to the next
TOP = 64


def draw_panel(drawing: Drawing, pairing: str, left: float) -> None:
    """Both towers, first layer on top, and an arrow from each learned prompt to those mapped from it."""
    config = PromptConfig(K=K, pairing=pairing).resolve(TEXT_LAYERS, VISION_LAYERS)
    table = PromptTable.of(config, TEXT_LAYERS, VISION_LAYERS)
    x = {"text": left + 10, "vision": left + PANEL - 10 - WIDTH}
    drawing.text(left + PANEL / 2, 24, f'pairing="{pairing}"', size=12.5, at="middle", bold=True)
    learned = {
        (tower, source.row): TOP + PITCH * i
        for tower in x
        for i, source in enumerate(table.layers(tower))
        if source is not None and source.leader == tower
    }
    for tower, start in x.items():
        drawing.text(start + WIDTH / 2, TOP - 12, tower, size=12, colour="soft", at="middle")
        for i, source in enumerate(table.layers(tower)):
            y = TOP + PITCH * i
            own = source is not None and source.leader == tower
            says, ink = ("carried", "ink") if source is None else ("learned", "page") if own else ("mapped", "ink")
            colour = "fill" if source is None else source.leader
            drawing.rect(start, y, WIDTH, HEIGHT, fill=colour if own or source is None else "page", edge=colour)
            drawing.text(start + WIDTH / 2, y + 15, f"{i + 1}  {says}", size=11.5, colour=ink, at="middle")
            if source is not None and not own:
                leads = x[source.leader] + (WIDTH + 2 if source.leader == "text" else -2)
                follows = start + (-2 if tower == "vision" else WIDTH + 2)
                from_y, to_y = (height + HEIGHT / 2 for height in (learned[source.leader, source.row], y))
                drawing.arrow([(leads, from_y), (follows, to_y)], colour=source.leader)


def draw() -> Drawing:
    """Both ways of pairing, beside each other."""
    drawing = Drawing(2 * PANEL, TOP + PITCH * VISION_LAYERS + 6, "Two ways to pair towers of 4 and 8 layers, with K=2")
    for number, pairing in enumerate(("layer", "proportional")):
        draw_panel(drawing, pairing, PANEL * number)
    return drawing


if __name__ == "__main__":
    draw().save(Path(__file__).with_suffix(".svg"))
