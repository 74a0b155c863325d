"""Measures on a GPU: exactness against the literal computation, times in eager and compiled mode, and peak memory.

`benchmarks/gpu.sh` runs it. Weights are random, class names real; nothing is downloaded. Each line is printed and
written to `--out` as soon as it is measured, and a table that fails leaves the others. `--device cpu --model tiny`
tries the script on a CPU, where its figures mean nothing.

Shapes: C classes, T frames, D features.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import machine, measure, models
from benchmarks.cases import Case
from benchmarks.compiled import compiled_subject
from benchmarks.subjects import Bench, Inputs, Subject
from tests.support.exactness import relative_error
from vilt_prompt import ScenarioGuidedLoss

# The largest difference of features and gradients that rounding explains, of the largest value. TF32 is off.
TOLERANCES = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02}
PAPERS_GPU = 11 * 2**30  # bytes


class Row(NamedTuple):
    """A line of the table of times."""

    what: str
    subject: str
    eager: float
    compiled: float | None
    peak: int


def exactness(bench: Bench, model: str, device: str, labels: str) -> Iterator[str]:
    """A line for each precision: how far features and gradients are from those of the literal computation in fp32."""
    yield "| precision | text features | video features | gradients | at most |"
    yield "|---|---|---|---|---|"
    measured = (("text", "inference", labels, None), ("image", "inference", None, 2), ("step", "train", labels, 2))
    for precision, tolerance in TOLERANCES.items():
        differences = []
        for kind, mode, names, frames in measured:
            found = []
            for subject, its_precision in (("literal", "fp32"), ("library", precision)):
                case = Case(device, its_precision, model, kind, mode, names, frames)
                _, out = measure.run(bench.subject(subject, case, Inputs(case, bench.sizes), float("inf")), case)
                found.append(out.float() if mode == "inference" else bench.gradients())
            literal, library = found
            differences.append(relative_error(library, literal))
        # `max` may pass over a NaN, which is at most nothing.
        verdict = "" if all(difference <= tolerance for difference in differences) else ", **exceeded**"
        shown = " | ".join(f"{difference:.1e}" for difference in differences)
        yield f"| {precision} | {shown} | {tolerance:g}{verdict} |"


def times(
    bench: Bench, model: str, device: str, labels: str, frames: int, precision: str, rounds: int, backend: str
) -> Iterator[str]:
    """A line for text, step and inference of each subject."""
    yield "| | | eager, ms | compiled, ms | library / this, eager | peak memory, GB |"
    yield "|---|---|---|---|---|---|"
    cases = [
        (f"encode_text, {labels}, forward and backward", "text", "train", labels, None),
        (f"step, {labels}, {frames} frames", "step", "train", labels, frames),
        (f"encode_video, {frames} frames, inference", "image", "inference", None, frames),
    ]
    for what, kind, mode, names, count in cases:
        case = Case(device, precision, model, kind, mode, names, count)
        inputs = Inputs(case, bench.sizes)
        rows = []
        for name in ("library", "literal", "bare"):
            if name == "bare" and mode == "train":
                continue  # all its weights would train
            subject = bench.subject(name, case, inputs, float("inf"))
            memory, _ = measure.memory_of(subject, case, bench.weights())
            eager = _median(subject, case, rounds)
            compiled = None
            if name != "literal":
                compiled = _median(compiled_subject(bench, subject, case, inputs, backend=backend), case, rounds)
            rows.append(Row(f"{what}, {precision}", name, eager, compiled, memory.peak))
        for row in rows:
            compiled_ms = "-" if row.compiled is None else f"{1e3 * row.compiled:.2f}"
            share = rows[0].eager / row.eager
            yield (
                f"| {row.what} | {row.subject} | {1e3 * row.eager:.2f} | {compiled_ms} | {share:.2f} "
                f"| {row.peak / 2**30:.2f} |"
            )


def _median(subject: Subject, case: Case, rounds: int) -> float:
    measure.run(subject, case)
    return statistics.median(measure.run(subject, case)[0].total for _ in range(rounds))


def long_video(bench: Bench, model: str, device: str) -> Iterator[str]:
    """Whether a training step on 32 frames fits the paper's GPU."""
    case = Case(device, "fp32", model, "step", "train", "hmdb51", 32)
    subject = bench.subject("library", case, Inputs(case, bench.sizes), float("inf"))
    memory, _ = measure.memory_of(subject, case, bench.weights())
    weights = sum(weight.nbytes for weight in bench.weights())
    together = memory.peak + weights
    verdict = "fits" if together <= PAPERS_GPU else "does **not** fit"
    yield f"A training step on 32 frames, fp32: {together / 2**30:.2f} GB with the weights, which {verdict} 11 GB."


def late_refusals(bench: Bench, device: str) -> Iterator[str]:
    """Whether a bad batch is refused, and the process goes on."""
    size = bench.sizes.embed_dim
    criterion = ScenarioGuidedLoss(torch.randn(3, size, device=device))
    features, text = torch.randn(2, size, device=device), torch.randn(3, size, device=device)
    labels = torch.tensor([0, 1], device=device)
    try:
        criterion(features, text, labels + 9)
        criterion(features, text, labels)
    except ValueError as error:
        yield f"A label out of range: `{error}`; the next step gives {criterion(features, text, labels):.2f}."
    else:
        yield "A label out of range was **not** refused."


def main(arguments: list[str] | None = None) -> None:
    """Prints and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--model", default="ViT-B-16", choices=(*models.MODELS, "tiny"))
    parser.add_argument("--labels", nargs="+", default=["hmdb51", "kinetics400"], help="lists of class names")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=tuple(TOLERANCES))
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--rounds", type=int, default=20, help="times each is timed; the median counts")
    parser.add_argument("--out", type=Path, default=Path("gpu.md"))
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here: --device cpu --model tiny tries the script")
    start, lines = time.perf_counter(), [f"Measured on {machine.name(machine.describe(options.device))}.", ""]

    failed = []

    def put(line: str) -> None:
        print(line, flush=True)
        lines.append(line)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def add(title: str, found: Callable[[], Iterator[str]]) -> None:
        for line in ("", title, ""):
            put(line)
        try:
            for line in found():
                put(line)
        except Exception as error:  # the other tables are worth having
            traceback.print_exc()
            failed.append(title)
            put("")
            put(f"**Failed:** {type(error).__name__}: {str(error).partition(chr(10))[0]}")

    bench = Bench(options.model, options.device)
    model, device, labels = options.model, options.device, options.labels
    add("Exactness, a step on 2 frames:", lambda: exactness(bench, model, device, labels[0]))
    add("A bad batch:", lambda: late_refusals(bench, device))
    for precision in options.precision:
        for names in labels:
            add(
                f"Times, {names}, {precision}:",
                lambda names=names, precision=precision: times(  # type: ignore[misc]
                    bench, model, device, names, options.frames, precision, options.rounds, options.backend
                ),
            )
    add("Long videos:", lambda: long_video(bench, model, device))
    print(f"\n{time.perf_counter() - start:.0f} s; the tables are in {options.out}")
    if failed:
        sys.exit(f"failed: {' '.join(failed)}")


if __name__ == "__main__":
    main()
