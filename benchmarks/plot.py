"""Time and peak memory as a picture, one for each model, device and precision on a machine.

`python -m benchmarks.plot` draws the pictures of the pages again, from the committed results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Record, median_of, read
from examples.drawing import Drawing

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {"bare": "token", "literal": "vision", "library": "text"}
NAMES = {"bare": "bare CLIP", "literal": "literal computation", "library": "this library"}
WIDTH, BAR = 390, 14
COLUMNS = (14, 206)  # where the bars of time and of memory start
LONGEST = 112  # pixels of the longest bar; its value stands behind it


def plot(results: dict[str, Any], out: Path) -> list[Path]:
    """Draws all results beside the file `out`, and says where: `results-ViT-B-16-cpu-fp32.svg`."""
    written = []
    for path, drawing in drawings(results, out).items():
        drawing.save(path)
        written.append(path)
    return written


def drawings(results: dict[str, Any], out: Path) -> dict[Path, Drawing]:
    """The pictures of all results, with the files beside `out` that they belong into."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in results["records"]:
        case = record["case"]
        groups.setdefault((record["machine"], case["model"], case["device"], case["precision"]), []).append(record)
    machines = list(results["machines"])
    found = {}
    for (machine, *setting), records in groups.items():
        number = machines.index(machine)
        name = "-".join([out.stem, *setting, *([str(number + 1)] if number else [])])
        found[out.with_name(name + ".svg")] = draw(records, [", ".join(setting), machine])
    return found


def draw(records: Sequence[Record], titles: Sequence[str]) -> Drawing:
    """Bars for each case: seconds on the left, peak memory on the right, both with their values."""
    drawing = Drawing(WIDTH, 0, "Time and peak memory: " + ", ".join(titles))
    for line, title in enumerate(titles):
        drawing.text(14, 24 + 18 * line, title, size=13 - line, bold=not line, colour="soft" if line else "ink")
    y, x = 24 + 18 * len(titles), 14
    for subject, colour in COLOURS.items():
        if any(subject in record["subjects"] for record in records):
            drawing.rect(x, y - 10, 11, 11, fill=colour, radius=2)
            drawing.text(x + 16, y, NAMES[subject], size=12)
            x += 110 if subject == "bare" else 150
    y += 26
    drawing.text(COLUMNS[0], y, "time, median", size=12, colour="soft")
    drawing.text(COLUMNS[1], y, "peak memory", size=12, colour="soft")
    for record in sorted(records, key=_order):
        y = _draw_case(drawing, record, y + 26)
    drawing.height = round(y + 8)
    return drawing


def _draw_case(drawing: Drawing, record: Record, y: float) -> float:
    """One case: its title, and a bar for each subject; returns where it ends."""
    drawing.text(14, y, title_of(record), size=12.5, bold=True)
    subjects = [subject for subject in COLOURS if subject in record["subjects"]]
    columns = (
        (COLUMNS[0], {subject: median_of(record, subject, "total_s") for subject in subjects}, _seconds),
        (COLUMNS[1], {subject: record["subjects"][subject]["peak_bytes"] for subject in subjects}, _bytes),
    )
    for x, values, said in columns:
        for number, (subject, value) in enumerate(values.items()):
            top = y + 8 + (BAR + 3) * number
            width = max(1.5, LONGEST * value / max(values.values()))
            drawing.rect(x, top, width, BAR, fill=COLOURS[subject], radius=2)
            drawing.text(x + width + 5, top + BAR - 3, said(value), size=11.5)
    return y + 8 + (BAR + 3) * len(subjects)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 9.95 else f"{value:.0f} s"


def _bytes(value: float) -> str:
    return f"{value / 2**30:.1f} GB" if value >= 2**30 else f"{value / 2**20:.0f} MB"


def title_of(record: Record) -> str:
    """A description of the run in words."""
    case, classes = record["case"], record["classes"]
    frames = f"{case['frames']} frame" + ("s" if case["frames"] != 1 else "")
    what = {
        "text": f"encode_text, {classes} classes",
        "step": f"Training step, {classes} classes, {frames}",
        "image": f"encode_video, {frames}",
    }[case["measure"]]
    if case["measure"] == "step":
        return what
    return f"{what}, " + ("forward and backward" if case["mode"] == "train" else "inference")


def _order(record: Record) -> tuple[int, int, int]:
    """Texts, then training steps, then inference; small cases first."""
    case = record["case"]
    return ("text", "step", "image").index(case["measure"]), record["classes"] or 0, case["frames"] or 0


if __name__ == "__main__":
    for path, drawing in drawings(read(ROOT / "benchmarks/results.json"), ROOT / "docs/results.json").items():
        if path.exists():
            drawing.save(path)
