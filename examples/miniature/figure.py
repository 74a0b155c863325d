"""The quickstart's figure: the course of training, and its effect on each action."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from examples.drawing import Drawing

WIDTH, LEFT, RIGHT = 390, 206, 370  # of the picture; the ends of the axes
ROW = 19  # height of an action


class Accuracy(NamedTuple):
    """Shares of an action's test videos that were named correctly."""

    name: str
    zero_shot: float
    prompted: float

    @property
    def gain(self) -> float:
        """What training changed."""
        return self.prompted - self.zero_shot


def accuracies(zero_shot: Tensor, prompted: Tensor, labels: Tensor, names: Sequence[str]) -> list[Accuracy]:
    """The accuracy of each class, the largest gain first.

    Args:
        zero_shot: The classes that the frozen model named, (B,).
        prompted: The classes that the trained model named, (B,).
        labels: The right ones, (B,).
        names: The names of the classes.
    """
    found = []
    for number, name in enumerate(names):
        own = labels == number
        shares = ((guessed[own] == number).float().mean().item() for guessed in (zero_shot, prompted))
        found.append(Accuracy(name, *shares))
    return sorted(found, key=lambda accuracy: (-accuracy.gain, accuracy.name))


def draw(path: Path, history: Sequence[float], groups: dict[str, list[Accuracy]]) -> None:
    """Draws the training curve, and for each class how many test videos were named before and after, as SVG.

    Args:
        path: The file to write.
        history: The loss of each step.
        groups: Title to accuracies.
    """
    drawing = Drawing(WIDTH, 0, "Loss of the training, and accuracy on each action before and after")
    y = draw_curve(drawing, history)
    drawing.circle(20, y + 26, 4, fill="page", edge="soft")
    drawing.text(30, y + 30, "zero-shot", size=12)
    drawing.circle(108, y + 26, 5, fill="text")
    drawing.text(118, y + 30, "with trained prompts", size=12)
    drawing.circle(264, y + 26, 5, fill="vision")
    drawing.text(274, y + 30, "if worse", size=12)
    y += 44
    for title, rows in groups.items():
        y = draw_group(drawing, title, rows, y)
    drawing.height = round(y + 4)
    drawing.save(path)


def draw_curve(drawing: Drawing, history: Sequence[float]) -> float:
    """The loss over the steps; returns where it ends."""
    left, top, height = 40, 36, 76
    most = max(history)
    drawing.text(14, 22, f"Training loss, {len(history)} steps", size=13, bold=True)
    for value in (0.0, most):
        y = top + height * (1 - value / most)
        drawing.line([(left, y), (RIGHT, y)], colour="line", stroke=1)
        drawing.text(left - 6, y + 4, f"{value:.1f}".removesuffix(".0"), size=11, colour="soft", at="end")
    step = (RIGHT - left) / max(1, len(history) - 1)
    points = [(left + step * i, top + height * (1 - loss / most)) for i, loss in enumerate(history)]
    drawing.line(points, colour="text")
    return top + height


def draw_group(drawing: Drawing, title: str, rows: Sequence[Accuracy], y: float) -> float:
    """One line for each class, from the accuracy before to the one after; returns where it ends."""
    means = (100 * sum(values) / len(rows) for values in zip(*(row[1:] for row in rows), strict=True))
    before, after = (f"{mean:.1f}%" for mean in means)
    drawing.text(14, y + 18, f"{title}: {before} \u2192 {after}", size=13, bold=True)
    top, bottom = y + 26, y + 26 + ROW * len(rows)
    for percent in (0, 50, 100):
        x = LEFT + (RIGHT - LEFT) * percent / 100
        drawing.line([(x, top), (x, bottom)], colour="line", stroke=1)
        drawing.text(x, bottom + 14, f"{percent}%", size=11, colour="soft", at="middle")
    for number, row in enumerate(rows):
        middle = top + ROW * (number + 0.5)
        drawing.text(LEFT - 12, middle + 4, row.name, size=11, at="end")
        ends = [(LEFT + (RIGHT - LEFT) * share, middle) for share in (row.zero_shot, row.prompted)]
        drawing.line(ends, colour="text" if row.gain >= 0 else "vision", stroke=2.5)
        drawing.circle(*ends[0], 4, fill="page", edge="soft")
        drawing.circle(*ends[1], 5, fill="text" if row.gain >= 0 else "vision")
    return bottom + 24
