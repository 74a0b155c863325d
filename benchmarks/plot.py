"""Time and peak memory as a picture, one for each model, device and precision on a machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import Record, median_of

COLOURS = {"bare": "#888888", "literal": "#d1495b", "library": "#00798c"}
FLOOR = "#edae49"
STYLES = {"forward": ":", "forward+backward": "-", "inference": "--"}
AXES = {"text": "classes", "step": "classes", "image": "frames"}


def plot(results: dict[str, Any], out: Path) -> list[Path]:
    """Draws all results beside the file `out`, and says where: `results-ViT-B-16-cpu-fp32.png`."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in results["records"]:
        case = record["case"]
        groups.setdefault((record["machine"], case["model"], case["device"], case["precision"]), []).append(record)
    machines = list(results["machines"])
    written = []
    for (machine, *setting), records in groups.items():
        number = machines.index(machine)
        name = "-".join([out.stem, *setting, *([str(number + 1)] if number else [])])
        path = out.with_name(name + ".png")
        draw(records, f"{', '.join(setting)}: {machine}").savefig(path, dpi=120)
        written.append(path)
    return written


def draw(records: Sequence[Record], title: str) -> Figure:
    """Seconds above, peak memory below; over classes for texts and training steps, over frames for images."""
    measures = [measure for measure in AXES if any(record["case"]["measure"] == measure for record in records)]
    figure = Figure(figsize=(4.6 * len(measures) + 2.2, 7.5), layout="constrained")
    axes = figure.subplots(2, len(measures), squeeze=False)
    figure.suptitle(title, fontsize=11)
    for column, measure in enumerate(measures):
        of_measure = [record for record in records if record["case"]["measure"] == measure]
        _panel(axes[0][column], axes[1][column], measure, of_measure)
    axes[0][0].set_ylabel("seconds, median and range")
    axes[1][0].set_ylabel("peak memory, GB")
    entries = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _panel(time: Axes, memory: Axes, measure: str, records: Sequence[Record]) -> None:
    axis = AXES[measure]
    frames = sorted({record["case"]["frames"] for record in records} - {None})
    if measure == "step":  # one more axis than a picture has
        shown = 8 if 8 in frames else frames[-1]
        records = [record for record in records if record["case"]["frames"] == shown]
        time.set_title(f"training step, one video, {shown} frames", fontsize=10)
    else:
        time.set_title({"text": "encode_text", "image": "encode_video, one video"}[measure], fontsize=10)
    records = sorted(records, key=lambda record: _place(record, axis))
    for subject in COLOURS:
        for mode in ("train", "inference"):
            found = [record for record in records if record["case"]["mode"] == mode and subject in record["subjects"]]
            if not found:
                continue
            # Beside each other, so that none hides another.
            beside = {"bare": 0.98, "literal": 1.0, "library": 1.02}[subject]
            places = [_place(record, axis) * beside for record in found]
            for what, name in (
                [("forward_s", "forward"), ("total_s", "forward+backward")]
                if mode == "train"
                else [("total_s", "inference")]
            ):
                style = {"color": COLOURS[subject], "linestyle": STYLES[name], "marker": "o", "markersize": 3.5}
                seconds = [record["subjects"][subject][what] for record in found]
                medians = [median_of(record, subject, what) for record in found]
                spread = [
                    [middle - min(all_of) for middle, all_of in zip(medians, seconds, strict=True)],
                    [max(all_of) - middle for middle, all_of in zip(medians, seconds, strict=True)],
                ]
                time.errorbar(places, medians, yerr=spread, capsize=2, label=f"{subject}, {name}", **style)
                if what == "total_s":
                    peaks = [record["subjects"][subject]["peak_bytes"] / 2**30 for record in found]
                    memory.plot(places, peaks, **style)
    _floor(time, records, axis)
    for panel in (time, memory):
        panel.set_xscale("log")
        low, high = panel.dataLim.intervaly
        if high > 5 * low:
            panel.set_yscale("log")
        else:  # a logarithmic axis would make much of little
            panel.set_ylim(0, 1.1 * high)
        panel.set_xlabel(axis)
        ticks = sorted({_place(record, axis) for record in records})
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
        panel.xaxis.minorticks_off()
        panel.grid(alpha=0.3)


def _floor(time: Axes, records: Sequence[Record], axis: str) -> None:
    """Where the library would be if time went with the floor's operations at the literal computation's speed."""
    for mode, name in (("train", "forward+backward"), ("inference", "inference")):
        found = [record for record in records if record["case"]["mode"] == mode and "literal" in record["subjects"]]
        if found:
            floors = [
                median_of(record, "literal", "total_s") * record["flops"]["floor"] / record["flops"]["literal"]
                for record in found
            ]
            places = [_place(record, axis) for record in found]
            time.plot(
                places, floors, color=FLOOR, linestyle=STYLES[name], marker="_", markersize=9, label=f"floor, {name}"
            )


def _place(record: Record, axis: str) -> int:
    return record["classes"] if axis == "classes" else record["case"]["frames"]
