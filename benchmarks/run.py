"""Measures the library against bare open_clip and against the literal token-by-token computation.

`python benchmarks/run.py` takes a default subset, ViT-B/16 on the CPU or GPU that is there, in float32, about a quarter of
an hour on two CPU cores; `--plan` says what a command line is going to take, `--all` takes everything. Random weights,
real class names; nothing is downloaded. Times are taken in one process, in turn. Every case is written to `--out` as soon as
it is done, and one that is there already is not measured again: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cases
import class_names
import machine
import measure
import models
import results as results_file
import torch
from cases import Case
from plot import plot
from subjects import Bench, Inputs, fits
from table import tables

DIFFERENCE = 1e-3  # what two ways to compute the same may differ by in float32, of the largest value


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what was asked for, and prints the tables of all that is in the file."""
    parser = command_line()
    chosen = parser.parse_args(arguments)
    wanted = chosen_cases(chosen)
    subjects = chosen.subjects or (cases.SUBJECTS if chosen.all else None)
    here = machine.describe(chosen.device)
    results = results_file.read(chosen.out)
    threads = torch.get_num_threads()
    left = [case for case in wanted if chosen.again or results_file.find(results, case.key, machine.name(here)) is None]

    seconds = [cases.planned_seconds(case, subjects_of(case, subjects), chosen.rounds, threads) for case in left]
    print(f"{len(wanted)} cases, {len(wanted) - len(left)} of them in {chosen.out} already; {len(left)} to measure,")
    print(f"planned {sum(seconds) / 60:.0f} minutes on {machine.name(here)}", flush=True)
    if chosen.plan:
        for case, planned in zip(left, seconds, strict=True):
            print(f"{planned:8.0f} s  {case.key}")
        return

    memory = chosen.memory_gb * 2**30 if chosen.memory_gb else 0.7 * machine.physical_memory(chosen.device)
    bench, built = None, None
    for number, (case, planned) in enumerate(zip(left, seconds, strict=True), start=1):
        print(f"[{number}/{len(left)}] {case.key}, planned {planned:.0f} s", flush=True)
        if built != case.model:
            bench = None  # one model in memory at a time
            bench, built = Bench(case.model, chosen.device), case.model
        record = measured(bench, case, subjects_of(case, subjects), chosen.rounds, memory)
        record["machine"] = machine.name(here)
        results["machines"][machine.name(here)] = here
        results_file.put(results, record)
        results_file.write(chosen.out, results)

    for made in tables(results).values():
        print(f"\n{made}")
    for path in plot(results, chosen.out):
        print(f"\n{path}")


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=None, help=f"of open_clip; default ViT-B-16, --all: {models.MODELS}")
    parser.add_argument("--labels", nargs="+", choices=class_names.LABEL_SETS, help="default: all; a step's: two")
    parser.add_argument("--frames", nargs="+", type=int, help="frames of the one video; default 8, --all: 1 8 32")
    parser.add_argument("--measure", nargs="+", choices=cases.MEASURES, default=cases.MEASURES)
    parser.add_argument("--modes", nargs="+", choices=cases.MODES, help="default: train text and steps, infer images")
    parser.add_argument("--subjects", nargs="+", choices=cases.SUBJECTS, help="default: bare at inference alone")
    parser.add_argument("--precision", nargs="+", choices=cases.PRECISIONS, help="autocast; default fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3, help="times each subject is timed, two where that takes minutes")
    parser.add_argument("--all", action="store_true", help="everything that is not said otherwise; hours on a CPU")
    parser.add_argument("--again", action="store_true", help="measure also what is in the file already")
    parser.add_argument("--plan", action="store_true", help="say what it is going to take, and stop")
    parser.add_argument("--memory-gb", type=float, help="above which others than the library run in parts; default 70%%")
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="results; pictures go beside them")
    return parser


def chosen_cases(chosen: argparse.Namespace) -> list[Case]:
    """The cases that a command line asks for."""
    everything = chosen.all
    precisions = ["fp32"] if not everything or chosen.device == "cpu" else list(cases.PRECISIONS)
    return cases.select(
        devices=[(chosen.device, precision) for precision in chosen.precision or precisions],
        models=chosen.models or (models.MODELS if everything else ["ViT-B-16"]),
        measures=chosen.measure,
        modes=chosen.modes or (cases.MODES if everything else None),
        labels=chosen.labels or (class_names.LABEL_SETS if everything else None),
        frames=chosen.frames or (cases.FRAMES if everything else [8]),
    )


def subjects_of(case: Case, chosen: Sequence[str] | None) -> Sequence[str]:
    """Bare open_clip has nothing to train but all its weights, which takes longest: only where it was asked for."""
    return chosen or (cases.SUBJECTS if case.mode == "inference" else ("literal", "library"))


def measured(bench: Bench, case: Case, names: Sequence[str], rounds: int, memory: float) -> dict[str, Any]:
    """The record of one case.

    Raises:
        AssertionError: If the library and the literal computation give different features or gradients in float32.
    """
    start = time.perf_counter()
    inputs = Inputs(case, bench.sizes)
    subjects = {name: bench.subject(name, case, inputs, memory) for name in names}
    found: dict[str, dict[str, Any]] = {}
    outcomes = {}
    for name, subject in subjects.items():  # the first run, that warms up, is the one that looks at memory
        kept, out = measure.memory_of(subject, case, bench.weights())
        outcomes[name] = out if case.mode == "inference" else bench.gradients()
        found[name] = {"parts": len(subject.parts), "saved_bytes": kept.saved, "peak_bytes": kept.peak}
    difference = None
    if "literal" in outcomes and "library" in outcomes:
        difference = float((outcomes["literal"] - outcomes["library"]).abs().max() / outcomes["literal"].abs().max())
        if case.precision == "fp32":
            assert difference < DIFFERENCE, f"{case.key}: library and literal computation differ by {difference:.1e}"
    if case.mode == "train" and "library" in subjects:
        found["library"]["flops"] = measure.flops_of(bench, subjects["library"], case)

    times = measure.interleaved(
        {name: lambda subject=subject: measure.run(subject, case)[0] for name, subject in subjects.items()},
        cases.rounds_of(case, rounds, torch.get_num_threads()),
    )
    for name, taken in times.items():
        found[name] |= {"forward_s": [run.forward for run in taken], "total_s": [run.total for run in taken]}

    tokens = classes = None
    if case.labels is not None:
        own = class_names.own_tokens(class_names.read_names(case.labels))
        tokens, classes = class_names.token_ratios(own)._asdict(), len(own)
    return {
        "key": case.key,
        "case": asdict(case),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "took_s": time.perf_counter() - start,
        "n_ctx": bench.sizes.n_ctx,
        "K": bench.sizes.K,
        "classes": classes,
        "token_ratios": tokens,
        "flops": asdict(cases.work(case)),
        "difference": difference,
        "subjects": found,
    }


if __name__ == "__main__":
    main()
