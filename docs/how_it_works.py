"""Draws `docs/how_it_works.svg`: both equations, and where each prompt enters. Run `python -m docs.how_it_works`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

TEXT, VISION, CARRIED = "#2f6db3", "#c7662b", "#a9a9a9"
INK, TOKEN, BLOCK, LINE = "#222222", "#eceff1", "#f7f7f5", "#8a8f94"
HEIGHT = 0.62  # of a token
ROWS = (1.0, 4.6, 8.2)  # the y of the tokens that enter each band's layers
ABOVE = 1.15  # from the tokens up to the layer
LAYER = 1.1  # height of a layer


class Band(NamedTuple):
    """Layers that take their prompts in one way; None: what the layer below gave out at the prompts' places."""

    layers: str
    says: str
    leader: str | None
    text: str
    vision: str
    text_equation: str
    vision_equation: str


BANDS = (
    Band(
        "$1\\ldots K$", "text leads", "text", r"$P_i$", r"$F(P_i)$",
        r"$[W_i,\ \_\ ] = \mathcal{T}_i([W_{i-1},\ P_i])$",
        r"$[E_i,\ \_\ ] = \mathcal{V}_i([E_{i-1},\ F(P_i)])$",
    ),
    Band(
        "$K{+}1\\ldots J$", "vision leads", "vision", r"$\tilde{F}(\tilde{P}_i)$", r"$\tilde{P}_i$",
        r"$[W_i,\ \_\ ] = \mathcal{T}_i([W_{i-1},\ \tilde{F}(\tilde{P}_i)])$",
        r"$[E_i,\ \_\ ] = \mathcal{V}_i([E_{i-1},\ \tilde{P}_i])$",
    ),
    Band(
        "$J{+}1\\ldots N$", "carried on", None, "$Q_{i-1}$", "$Q_{i-1}$",
        r"$[W_i,\ Q_i] = \mathcal{T}_i([W_{i-1},\ Q_{i-1}])$",
        r"$[E_i,\ Q_i] = \mathcal{V}_i([E_{i-1},\ Q_{i-1}])$",
    ),
)  # fmt: skip


class Tower(NamedTuple):
    """Where a tower stands, and the tokens that enter its layers: name and width, None for the prompts' name."""

    name: str
    left: float
    right: float
    tokens: tuple[tuple[str | None, float], ...]
    colour: str


TOWERS = (
    Tower("text", 2.3, 8.2, (("start", 1.0), (None, 1.7), ("class name", 2.0), ("end", 0.9)), TEXT),
    Tower("vision", 10.0, 15.9, (("class", 1.0), ("patches of frame $t$", 2.75), (None, 1.85)), VISION),
)
GAP = 0.1


def box(axes: Axes, x: float, y: float, width: float, height: float, label: str, **style: object) -> None:
    """A rounded box around (x, y), its centre."""
    size = style.pop("fontsize", 12)
    colour = style.pop("color", INK)
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.1",
            **{"facecolor": "white", "edgecolor": LINE, "linewidth": 1.3, "zorder": 3, **style},
        )
    )  # fmt: skip
    axes.text(x, y, label, ha="center", va="center", fontsize=size, color=colour, zorder=5)


def arrow(axes: Axes, points: list[tuple[float, float]], colour: str = LINE, width: float = 1.4, z: float = 2) -> None:
    """An arrow along the points; a white edge sets it off from the lines below that it crosses."""
    xs, ys = zip(*points, strict=True)
    if len(points) > 2:
        axes.plot(xs[1:-1], ys[1:-1], color="white", linewidth=width + 6, zorder=z)
    axes.plot(xs, ys, color=colour, linewidth=width, zorder=z + 0.01, solid_joinstyle="round")
    axes.annotate(
        "", xy=points[-1], xytext=points[-2], zorder=z + 0.02,
        arrowprops={
            "arrowstyle": "-|>,head_length=0.35,head_width=0.17", "color": colour, "linewidth": width,
            "mutation_scale": 16, "shrinkA": 0, "shrinkB": 0,
        },
    )  # fmt: skip


def places(tower: Tower) -> list[tuple[float, float, str | None]]:
    """Centre, width and name of each token."""
    found, x = [], tower.left
    for name, width in tower.tokens:
        found.append((x + width / 2, width, name))
        x += width + GAP
    return found


def prompt_place(tower: Tower) -> float:
    """The centre of the prompts."""
    return next(x for x, _, name in places(tower) if name is None)


def draw_band(axes: Axes, number: int, tower: Tower) -> None:
    """The tokens that enter, the layer, and what leaves it for the tokens of the next band."""
    band, y = BANDS[number], ROWS[number]
    top = y + ABOVE + LAYER / 2
    for x, width, name in places(tower):
        if name is not None:
            box(axes, x, y, width, HEIGHT, name, facecolor=TOKEN, fontsize=11)
        else:
            own = band.leader == tower.name
            colour = {"text": TEXT, "vision": VISION, None: CARRIED}[band.leader]
            label = band.text if tower.name == "text" else band.vision
            box(
                axes, x, y, width, HEIGHT, label, facecolor=colour if own else "white", edgecolor=colour,
                linewidth=2.2, color="white" if own else INK, fontsize=14,
                linestyle="-" if band.leader else (0, (3, 1.6)),
            )  # fmt: skip
        arrow(axes, [(x, y + HEIGHT / 2), (x, y + ABOVE - LAYER / 2 + 0.02)])
        if number + 1 < len(BANDS):
            kept = name is not None or BANDS[number + 1].leader is None
            if kept:
                arrow(axes, [(x, top), (x, ROWS[number + 1] - HEIGHT / 2)])
                if name is None:
                    axes.text(x + 0.18, top + 0.75, "$Q_J$", fontsize=13, color=INK, va="center")
            else:
                axes.plot([x, x], [top, top + 0.32], color=LINE, linewidth=1.4, zorder=2)
                axes.plot(x, top + 0.42, marker="x", color=LINE, markersize=8, markeredgewidth=1.8, zorder=2)
                axes.text(x + 0.2, top + 0.42, "thrown away", fontsize=10, color="#707478", va="center")
    x, width = (tower.left + tower.right) / 2 - GAP / 2, tower.right - tower.left - GAP
    for offset in (0.16, 0.08):
        box(axes, x + offset, y + ABOVE + offset, width, LAYER, "", facecolor=BLOCK, edgecolor="#c4c8cb", zorder=2.5)
    equation = band.text_equation if tower.name == "text" else band.vision_equation
    box(axes, x, y + ABOVE, width, LAYER, equation, facecolor=BLOCK, fontsize=14.5)


def draw_map(axes: Axes, number: int) -> None:
    """From the prompt that is learned to the one that is mapped, below the tokens."""
    band, y = BANDS[number], ROWS[number]
    leader, follower = TOWERS if band.leader == "text" else TOWERS[::-1]
    bottom, below = y - HEIGHT / 2, y - HEIGHT / 2 - 0.42
    start, end = prompt_place(leader), prompt_place(follower)
    arrow(axes, [(start, bottom), (start, below), (end, below), (end, bottom)], leader.colour, 2.2, z=2.2)
    label = r"$F$" if band.leader == "text" else r"$\tilde{F}$"
    x = (TOWERS[0].right + TOWERS[1].left) / 2
    box(axes, x, below, 1.0, 0.6, label, edgecolor=leader.colour, linewidth=2.2, fontsize=15)
    widths = r"$d_t \to d_v$" if band.leader == "text" else r"$d_v \to d_t$"
    axes.text(x, below - 0.52, widths, ha="center", va="center", fontsize=12, color=INK)


def draw_features(axes: Axes) -> None:
    """What is pooled, and how both sides meet."""
    top = ROWS[-1] + ABOVE + LAYER / 2
    projected, met = top + 1.0, top + 2.1
    middle = (TOWERS[0].right + TOWERS[1].left) / 2
    for tower, token, projection, width, feature in (
        (TOWERS[0], "end", "TextProj", 1.6, "$c$"),
        (TOWERS[1], "class", "ImageProj, mean over the frames $t$", 4.6, "$v$"),
    ):
        x = next(x for x, _, name in places(tower) if name == token)
        is_text = tower.name == "text"
        side = 1 if is_text else -1
        arrow(axes, [(x, top), (x, projected - 0.3)])
        box(axes, x - side * (width / 2 - 0.5), projected, width, 0.6, projection, facecolor=BLOCK, fontsize=11)
        arrow(axes, [(x, projected + 0.3), (x, met), (middle - side * 0.8, met)])
        axes.text(x + side * 0.02, met + 0.2, feature, ha="center", fontsize=15, color=INK)
        end, name = (tower.left, "text tower (Eq. 10)") if is_text else (tower.right, "vision tower (Eq. 11)")
        where = "left" if is_text else "right"
        axes.text(end, met, name, ha=where, va="center", fontsize=15, color=INK, weight="bold")
    box(axes, middle, met, 1.6, 0.7, r"$\cos(v, c)\,/\,\tau$", fontsize=13, edgecolor=INK)


def draw_legend(axes: Axes) -> None:
    """What the boxes mean."""
    entries = (
        ("learned", {"facecolor": TEXT, "edgecolor": TEXT}),
        ("learned", {"facecolor": VISION, "edgecolor": VISION}),
        ("mapped from it", {"facecolor": "white", "edgecolor": TEXT, "linewidth": 2.2}),
        ("mapped from it", {"facecolor": "white", "edgecolor": VISION, "linewidth": 2.2}),
        ("from the layer below", {"edgecolor": CARRIED, "linewidth": 2.2, "linestyle": (0, (3, 1.6))}),
        ("frozen", {"facecolor": TOKEN}),
    )
    x = 2.3
    for i, (label, style) in enumerate(entries):
        box(axes, x + 0.2, -1.0, 0.4, 0.3, "", **style)
        twin = i + 1 < len(entries) and entries[i + 1][0] == label
        if not twin:
            axes.text(x + 0.55, -1.0, label, va="center", fontsize=11.5, color=INK)
        x += 0.5 if twin else 1.2 + 0.17 * len(label)


def draw() -> Figure:
    """The picture."""
    figure, axes = plt.subplots(figsize=(13, 10), layout="constrained")
    for number, band in enumerate(BANDS):
        y = ROWS[number] + ABOVE / 2 + 0.1
        axes.text(0.9, y + 0.22, "layers " + band.layers, ha="center", va="center", fontsize=13, color=INK)
        colour = {"text": TEXT, "vision": VISION, None: "#707478"}[band.leader]
        axes.text(0.9, y - 0.25, band.says, ha="center", va="center", fontsize=12, color=colour, weight="bold")
        for tower in TOWERS:
            draw_band(axes, number, tower)
        if band.leader is not None:
            draw_map(axes, number)
    draw_features(axes)
    draw_legend(axes)
    axes.set(xlim=(-0.3, 16.3), ylim=(-1.35, 12.6))
    axes.axis("off")
    return figure


if __name__ == "__main__":
    plt.switch_backend("svg")
    plt.rcParams.update({"svg.hashsalt": "how it works", "mathtext.fontset": "cm"})  # the same file each time
    draw().savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None}, facecolor="white")
