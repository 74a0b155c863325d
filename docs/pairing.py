"""Draws `docs/pairing.svg`: which layer of one tower goes with which of the other. Run `python -m docs.pairing`."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from vilt_prompt import PromptConfig
from vilt_prompt.prompts import PromptTable

TEXT_LAYERS, VISION_LAYERS, K = 4, 8, 2
TEXT, VISION, CARRIED = "#2f6db3", "#c7662b", "#d5d5d5"
WIDTH, HEIGHT, FAR = 1.5, 0.62, 4.2  # of a box; from the text tower to the vision tower


def draw(axes: Axes, pairing: str) -> None:
    """One panel: both towers, first layer at the bottom, an arrow from each learned prompt to those mapped from it."""
    config = PromptConfig(K=K, pairing=pairing).resolve(TEXT_LAYERS, VISION_LAYERS)
    table = PromptTable.of(config, TEXT_LAYERS, VISION_LAYERS)
    x = {"text": 0.0, "vision": FAR}
    learned: dict[tuple[str, int], int] = {}
    for tower, sources in (("text", table.text), ("vision", table.vision)):
        for i, source in enumerate(sources):
            if source is not None and source.leader == tower:
                learned[(tower, source.row)] = i
    for tower, sources in (("text", table.text), ("vision", table.vision)):
        for i, source in enumerate(sources):
            colour = CARRIED if source is None else TEXT if source.leader == "text" else VISION
            own = source is not None and source.leader == tower
            box = FancyBboxPatch(
                (x[tower] - WIDTH / 2, i + 1 - HEIGHT / 2), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.12",
                facecolor=colour if own or source is None else "white", edgecolor=colour, linewidth=1.8,
            )  # fmt: skip
            axes.add_patch(box)
            label = f"{i + 1}  carried" if source is None else f"{i + 1}  {'learned' if own else 'mapped'}"
            axes.text(
                x[tower], i + 1, label, ha="center", va="center", color="white" if own else "#222222", fontsize=10
            )
            if source is not None and not own:
                side = 1 if source.leader == "text" else -1
                start = (x[source.leader] + side * WIDTH / 2, learned[(source.leader, source.row)] + 1)
                axes.annotate(
                    "", xy=(x[tower] - side * WIDTH / 2, i + 1), xytext=start,
                    arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "shrinkA": 1, "shrinkB": 1},
                )  # fmt: skip
    axes.text(0, VISION_LAYERS + 0.75, "text tower", ha="center", fontsize=11)
    axes.text(FAR, VISION_LAYERS + 0.75, "vision tower", ha="center", fontsize=11)
    axes.set_title(f'pairing="{pairing}"', family="monospace", fontsize=12)
    axes.set(xlim=(-1.2, FAR + 1.2), ylim=(0.4, VISION_LAYERS + 1.3))
    axes.axis("off")


if __name__ == "__main__":
    plt.switch_backend("svg")
    plt.rcParams["svg.hashsalt"] = "pairing"  # the same file each time
    figure, panels = plt.subplots(1, 2, figsize=(10, 5.2), layout="constrained")
    for axes, pairing in zip(panels, ("layer", "proportional"), strict=True):
        draw(axes, pairing)
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None}, facecolor="white")
