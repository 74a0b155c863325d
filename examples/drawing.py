"""Pictures as SVG: with a ground and colours of their own, light or dark as the reader prefers.

A picture is as wide as a phone, or little wider, so that its texts keep their size there. Lengths are pixels.
"""

from __future__ import annotations

import base64
import math
from html import escape
from pathlib import Path

# Every colour by name, light and dark. "text" and "vision" are the two encoders of CLIP wherever they are drawn.
COLOURS = {
    "page": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#f0f6fc"),
    "soft": ("#59636e", "#9198a1"),
    "line": ("#d1d9e0", "#3d444d"),
    "fill": ("#eaeef2", "#262c36"),
    "token": ("#afb8c1", "#57606a"),
    "text": ("#0969da", "#4493f8"),
    "vision": ("#bc4c00", "#f0883e"),
}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'


class Drawing:
    """A picture that grows with each call; (0, 0) is the upper left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, *, fill: str = "none", edge: str = "none",
        stroke: float = 1.5, radius: float = 3, dashed: bool = False,
    ) -> None:  # fmt: skip
        """A rectangle by its upper left corner; `fill` and `edge` are names of `COLOURS`."""
        dash = ' stroke-dasharray="3 2"' if dashed else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:.1f}"'
            f' class="f-{fill} s-{edge}" stroke-width="{stroke}"{dash}/>'
        )

    def line(self, points: list[tuple[float, float]], *, colour: str = "soft", stroke: float = 1.5) -> None:
        """A line along points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="f-none s-{colour}" stroke-width="{stroke}"/>')

    def arrow(self, points: list[tuple[float, float]], *, colour: str = "soft", stroke: float = 1.5) -> None:
        """A line along points, with a head at the last one."""
        (x0, y0), (x, y) = points[-2:]
        length, size = math.dist((x0, y0), (x, y)), 4 + stroke
        dx, dy = (x - x0) / length * size, (y - y0) / length * size
        self.line([*points[:-1], (x - dx / 2, y - dy / 2)], colour=colour, stroke=stroke)
        head = [(x, y), (x - dx - dy * 0.6, y - dy + dx * 0.6), (x - dx + dy * 0.6, y - dy - dx * 0.6)]
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in head)
        self.parts.append(f'<polygon points="{corners}" class="f-{colour} s-none"/>')

    def circle(self, x: float, y: float, radius: float, *, fill: str, edge: str = "none", stroke: float = 2) -> None:
        """A circle around (x, y)."""
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="f-{fill} s-{edge}" stroke-width="{stroke}"/>'
        )

    def text(
        self, x: float, y: float, text: str, *, size: float = 12, colour: str = "ink", at: str = "start",
        bold: bool = False,
    ) -> None:  # fmt: skip
        """A line of text; y is its base line, `at` where x is: "start", "middle" or "end"."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{at}" class="f-{colour}"{weight}>'
            f"{escape(text)}</text>"
        )

    def image(self, x: float, y: float, width: float, height: float, data: bytes, kind: str = "webp") -> None:
        """An image file, which becomes a part of the picture."""
        encoded = base64.b64encode(data).decode("ascii")
        self.parts.append(
            f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            f' href="data:image/{kind};base64,{encoded}"/>'
        )

    def svg(self) -> str:
        """The file."""
        light, dark = (
            "\n".join(
                f".f-{name} {{ fill: {colours[n]} }} .s-{name} {{ stroke: {colours[n]} }}"
                for name, colours in COLOURS.items()
            )
            for n in (0, 1)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}"'
            f' width="{self.width}" height="{self.height}" role="img">\n<title>{escape(self.title)}</title>\n'
            f"<style>\ntext {{ font-family: {FONT} }}\n.f-none {{ fill: none }} .s-none {{ stroke: none }}\n{light}\n"
            f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n</style>\n"
            f'<rect class="f-page" width="{self.width}" height="{self.height}" rx="6"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )

    def save(self, path: Path) -> None:
        """Writes the file."""
        path.write_text(self.svg(), encoding="utf-8")
