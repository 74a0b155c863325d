"""The picture of `docs/results.md`: intervals of every method against zero-shot, as SVG.

It is 390 units wide, so that its text keeps its size on a phone. It has a background of its own, and dark colours where
the reader prefers them.
"""

from collections.abc import Iterator

from examples.miniature.methods import METHODS
from examples.miniature.primary import METRICS
from examples.miniature.rows import AVERAGED, Row
from examples.miniature.scores import Records
from examples.miniature.tables import TABLES, Line, compared
from examples.miniature.tasks import Tasks

WIDTH, LEFT, RIGHT = 390, 122, 374  # the edges of the picture and of the plots
ROW, HEAD, GAP = 27, 26, 22  # heights of a method, of a panel's title, and of the axis below it
TOP = 44
TICKS = range(-20, 41, 10)  # points
STYLE = """\
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.end { text-anchor: end }
.mid { text-anchor: middle }
.page { fill: #ffffff }
line { stroke-width: 1 }
.grid { stroke: #d8dee4 }
.zero { stroke: #59636e }
.interval { stroke-width: 2.5 }
circle { stroke-width: 2 }
.alone { stroke: #0969da; fill: #0969da }
.averaged { stroke: #bc4c00; fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .small { fill: #9198a1 }
  .page { fill: #0d1117 }
  .grid { stroke: #30363d }
  .zero { stroke: #9198a1 }
  .alone { stroke: #4493f8; fill: #4493f8 }
  .averaged { stroke: #f0883e; fill: #0d1117 }
}"""


def picture(records: Records, tasks: Tasks) -> str:
    """Draws the picture.

    Raises:
        ValueError: If no method has runs that can be compared with zero-shot.
    """
    what = TABLES["methods"]
    found = compared(what, records, tasks)
    if not found:
        raise ValueError("there are no runs to draw: do some first")
    panels: list[str] = []
    at = TOP
    for metric in METRICS:
        methods = list(dict.fromkeys(row.method for row in found if metric in found[row].differences))
        panels += _panel(metric, methods, found, at)
        at += HEAD + ROW * len(methods) + GAP + 10
    few = {METHODS[row.method].title: len(line.cells) for row, line in found.items() if len(line.cells) < what.runs}
    if few:
        counts = "; ".join(f"{title}: {count}" for title, count in few.items())
        panels.append(f'<text class="small" x="14" y="{at + 8}">Fewer than {what.runs} runs: {counts}</text>')
        at += 20
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {at}" width="{WIDTH}" height="{at}" role="img">',
        "<title>Difference from zero-shot in points, with 95% intervals, of every method</title>",
        f"<style>\n{STYLE}\n</style>",
        f'<rect class="page" width="{WIDTH}" height="{at}" rx="6"/>',
        '<circle class="alone" cx="18" cy="16" r="4"/><text x="28" y="20">by itself</text>',
        '<circle class="averaged" cx="108" cy="16" r="4"/><text x="118" y="20">averaged with the frozen model</text>',
        '<text class="small" x="14" y="37">points over zero-shot, uncorrected 95% intervals</text>',
    ]
    return "\n".join([*head, *panels, "</svg>"]) + "\n"


def _x(points: float) -> float:
    """The position of a difference. Values beyond the axis are drawn at its end."""
    share = (points - TICKS[0]) / (TICKS[-1] - TICKS[0])
    return LEFT + min(max(share, 0.0), 1.0) * (RIGHT - LEFT)


def _panel(metric: str, methods: list[str], found: dict[Row, Line], top: int) -> Iterator[str]:
    """One metric: a line for each method, with one interval or two."""
    start, end = top + HEAD, top + HEAD + ROW * len(methods)
    yield f'<text class="title" x="14" y="{top + 16}">{metric}</text>'
    for tick in TICKS:
        kind = "grid" if tick else "zero"
        yield f'<line class="{kind}" x1="{_x(tick):.1f}" x2="{_x(tick):.1f}" y1="{start}" y2="{end}"/>'
        yield f'<text class="small mid" x="{_x(tick):.1f}" y="{end + 15}">{tick:+d}</text>'.replace("+0<", "0<")
    for n, method in enumerate(methods):
        middle = start + ROW * (n + 0.5)
        yield f'<text class="end" x="{LEFT - 8}" y="{middle + 4:.1f}">{METHODS[method].title}</text>'
        own = [Row(method, weight) for weight in (0.0, AVERAGED) if Row(method, weight) in found]
        for row, shift in zip(own, (-5.5, 5.5) if len(own) > 1 else (0.0,), strict=True):
            difference = found[row].differences[metric]
            low, high = (100 * edge for edge in difference.interval)
            kind, y = "averaged" if row.weight else "alone", middle + shift
            yield f'<line class="{kind} interval" x1="{_x(low):.1f}" x2="{_x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<circle class="{kind}" cx="{_x(100 * difference.difference):.1f}" cy="{y:.1f}" r="4"/>'
