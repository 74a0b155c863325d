"""Results on disk, case by case, and the ratios that are read from them.

A record holds the times of every round as they were taken; medians and ratios are computed when they are shown.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA = 1
Record = dict[str, Any]


class Ratio(NamedTuple):
    """The median of the ratios round by round, and their range."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def read(path: Path) -> dict[str, Any]:
    """The results in a file, or empty ones where there is no file.

    Raises:
        ValueError: If the file is of another schema.
    """
    if not path.exists():
        return {"schema": SCHEMA, "machines": {}, "records": []}
    results: dict[str, Any] = json.loads(path.read_text())
    if results.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {results.get('schema')!r}, this version writes {SCHEMA}: name another file with --out"
        )
    return results


def write(path: Path, results: dict[str, Any]) -> None:
    """Writes results so that a run that is killed leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    os.replace(unfinished, path)


def find(results: dict[str, Any], key: str, machine: str) -> Record | None:
    """The record of a case on a machine."""
    return next((r for r in results["records"] if (r["key"], r["machine"]) == (key, machine)), None)


def put(results: dict[str, Any], record: Record) -> None:
    """Adds a record; one of the same case on the same machine is replaced."""
    results["records"] = [
        r for r in results["records"] if (r["key"], r["machine"]) != (record["key"], record["machine"])
    ]
    results["records"].append(record)


def inputs(record: Record) -> list[str]:
    """The class names and frames of a record, as far as it has any."""
    case = record["case"]
    frames = None if case["frames"] is None else f"{case['frames']} frame{'s' * (case['frames'] > 1)}"
    return [part for part in (case["labels"], frames) if part is not None]


def setting(record: Record) -> tuple[str, str, str]:
    """What a record was measured with."""
    case = record["case"]
    return case["device"], case["precision"], case["model"]


def ratio(record: Record, over: str, under: str, what: str = "total_s") -> Ratio | None:
    """How many times one subject's seconds another's are, or None where one of them was not measured.

    >>> times = {"literal": {"total_s": [8.0, 9.0, 30.0]}, "library": {"total_s": [2.0, 3.0, 3.0]}}
    >>> ratio({"subjects": times}, "literal", "library")
    Ratio(median=4.0, low=3.0, high=10.0)
    """
    subjects = record["subjects"]
    if over not in subjects or under not in subjects:
        return None
    pairs = zip(subjects[over][what], subjects[under][what], strict=True)
    ratios = [first / second for first, second in pairs]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def bytes_ratio(record: Record, over: str, under: str, what: str) -> float | None:
    """The ratio of two subjects' bytes, or None if one of them was not measured."""
    subjects = record["subjects"]
    if over not in subjects or under not in subjects or not subjects[under][what]:
        return None
    return float(subjects[over][what] / subjects[under][what])


def median_of(record: Record, subject: str, what: str) -> float | None:
    """The median of a subject's seconds, or None where it was not measured."""
    found = record["subjects"].get(subject)
    return None if found is None else statistics.median(found[what])
