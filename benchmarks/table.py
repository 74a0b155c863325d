"""Markdown tables of results: `python -m benchmarks.table benchmarks/results.json`.

With `--write` they go into pages, see `benchmarks.pages`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks import results as results_file
from benchmarks.results import Record, bytes_ratio, inputs, median_of, ratio, setting
from benchmarks.targets import REFERENCE, targets

SUBJECTS = ("bare", "literal", "library")


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The tables by the names that pages ask for them."""
    return {
        "ratios": ratios_table(results),
        "targets": targets_table(results),
        "results": results_table(results),
        "machines": machines_table(results),
    }


def ratios_table(results: dict[str, Any]) -> str:
    """How many times as fast training is as the literal computation, and inference as bare open_clip: a line a case.

    The short table: of the setting that the targets are for, on the first machine.
    """
    rows = []
    for record in results["records"]:
        if setting(record) != REFERENCE or elsewhere(results, record):
            continue
        case = record["case"]
        train = case["mode"] == "train"
        found = ratio(record, "literal", "library") if train else ratio(record, "library", "bare")
        if found is not None:
            name = {"text": "`encode_text`", "step": "training step", "image": "`encode_video`"}[case["measure"]]
            what = "forward and backward: literal computation / library" if train else "inference: library / bare model"
            rows.append((", ".join([name, *inputs(record), what]), str(found)))
    return markdown(("", "ratio"), rows)


def targets_table(results: dict[str, Any]) -> str:
    """The targets of the library, the measured values, and whether each target is met."""
    rows = [
        (
            target.what + elsewhere(results, record),
            target.bound,
            f"{target.measured:.3g}",
            target.spread,
            "yes" if target.met else "**no**",
        )
        for record in results["records"]
        for target in targets(record)
    ]
    return markdown(("", "target", "measured", "median (range)", "met"), rows)


def results_table(results: dict[str, Any]) -> str:
    """All that was measured: a line for each case, two where a backward pass follows."""
    header = (
        "case", "pass", *(f"{name}, s" for name in SUBJECTS), "literal / library", "library / bare", "floor: FLOPs",
        "floor: tokens", *(f"{name}, peak" for name in SUBJECTS), "saved: literal / library", "",
    )  # fmt: skip
    rows = []
    for record in results["records"]:
        for what, name in passes(record):
            rows.append((title(record) + elsewhere(results, record), name, *_numbers(record, what)))
    return markdown(header, rows)


def machines_table(results: dict[str, Any]) -> str:
    """The machine and the versions that the results were measured with."""
    rows = [
        (name, ", ".join(f"{key} {value}" for key, value in machine.items()))
        for name, machine in results["machines"].items()
    ]
    return markdown(("machine", "with"), rows)


def passes(record: Record) -> list[tuple[str, str]]:
    """The seconds of a record, and the name of the computation that they measure."""
    if record["case"]["mode"] == "inference":
        return [("total_s", "inference")]
    return [("forward_s", "forward"), ("total_s", "forward+backward")]


def elsewhere(results: dict[str, Any], record: Record) -> str:
    """Where a record was measured, unless it was on the first machine of the results."""
    return "" if record["machine"] == next(iter(results["machines"])) else f" ({record['machine']})"


def title(record: Record) -> str:
    """What a record is of."""
    return ", ".join([record["case"]["measure"], *inputs(record), *reversed(setting(record))])


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table.

    >>> print(markdown(("a", "b"), [("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    header = tuple(header)
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _numbers(record: Record, what: str) -> tuple[str, ...]:
    backward = what == "total_s"
    seconds = [median_of(record, subject, what) for subject in SUBJECTS]
    peaks = [record["subjects"].get(subject, {}).get("peak_bytes") for subject in SUBJECTS]
    saved = bytes_ratio(record, "literal", "library", "saved_bytes")
    parts = {subject: found["parts"] for subject, found in record["subjects"].items() if found["parts"] > 1}
    flops, tokens = record["flops"], record["token_ratios"]
    return (
        *("-" if value is None else f"{value:.3g}" for value in seconds),
        _or_dash(ratio(record, "literal", "library", what)),
        _or_dash(ratio(record, "library", "bare", what)),
        f"{flops['literal'] / flops['floor']:.3g}",
        "-" if tokens is None or record["case"]["frames"] is not None else f"{tokens['own']:.3g}",
        *("-" if value is None or not backward else gigabytes(value) for value in peaks),
        "-" if saved is None or not backward else f"{saved:.3g}",
        "; ".join(f"{subject} in {count} parts, memory added up" for subject, count in parts.items()),
    )


def gigabytes(count: int) -> str:
    """Bytes as they are printed.

    >>> gigabytes(3 * 2**30), gigabytes(2**20)
    ('3 GB', '0.000977 GB')
    """
    return f"{count / 2**30:.3g} GB"


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def main(arguments: list[str] | None = None) -> None:
    """Prints the tables of a file, or writes them into pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what `benchmarks/run.py` wrote")
    pages.add_write_option(parser)
    chosen = parser.parse_args(arguments)
    if not chosen.results.exists():
        parser.error(f"there is no file {chosen.results}: benchmarks/run.py --out {chosen.results} writes it")
    made = tables(results_file.read(chosen.results))
    pages.write(parser, chosen.write, made)
    if not chosen.write:
        print("\n\n".join(made.values()))


if __name__ == "__main__":
    main()
