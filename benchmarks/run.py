"""Measures the library against bare open_clip and against the literal token-by-token computation.

`python -m benchmarks.run` takes a default subset: ViT-B/16 in float32, on the GPU if there is one; planned for eighteen
minutes on two CPU cores. `--plan` says what a command line is going to take, `--all` takes everything. Weights are
random, class names real; nothing is downloaded. Times are taken in one process, in turn. Every case is written to
`--out` as soon as it is done, and one that is there is not measured again: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import cases, class_names, machine, measure, models
from benchmarks import results as results_file
from benchmarks.cases import Case
from benchmarks.plot import plot
from benchmarks.subjects import Bench, Inputs
from benchmarks.table import tables
from tests.support.exactness import relative_error

DIFFERENCE = 1e-3  # what two ways to compute the same may differ by in float32, of the largest value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the requested measurements, and print the tables of all results in the file."""
    parser = command_line()
    chosen = parser.parse_args(arguments)
    wanted = chosen_cases(chosen)
    if any(case.device == "cuda" for case in wanted) and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here: measure with --devices cpu")
    here = {case.device: machine.describe(case.device) for case in wanted}
    results = results_file.read(chosen.out)

    def is_there(case: Case) -> bool:
        record = results_file.find(results, case.key, machine.name(here[case.device]))
        return record is not None and set(subjects_of(case, chosen)) <= set(record["subjects"])

    left = [case for case in wanted if chosen.again or not is_there(case)]
    seconds = [
        cases.planned_seconds(case, subjects_of(case, chosen), rounds_of(case, chosen), torch.get_num_threads())
        for case in left
    ]
    print(f"{len(wanted)} cases, {len(wanted) - len(left)} of them in {chosen.out} already; {len(left)} to measure,")
    print(f"planned {sum(seconds) / 60:.0f} minutes on {' and '.join(map(machine.name, here.values()))}", flush=True)
    if chosen.plan:
        for case, planned in zip(left, seconds, strict=True):
            print(f"{planned:8.0f} s  {case.key}")
        return

    bench, built = None, None
    for number, (case, planned) in enumerate(zip(left, seconds, strict=True), start=1):
        print(f"[{number}/{len(left)}] {case.key}, planned {planned:.0f} s", flush=True)
        memory = chosen.memory_gb * 2**30 if chosen.memory_gb else 0.7 * machine.physical_memory(case.device)
        if built != (case.model, case.device):
            bench = None  # one model in memory at a time
            bench, built = Bench(case.model, case.device), (case.model, case.device)
        record = measured(bench, case, subjects_of(case, chosen), rounds_of(case, chosen), memory)
        record["machine"] = machine.name(here[case.device])
        results["machines"][record["machine"]] = here[case.device]
        results_file.put(results, record)
        results_file.write(chosen.out, results)

    for made in tables(results).values():
        print(f"\n{made}")
    for path in plot(results, chosen.out):
        print(f"\n{path}")


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=None, help=f"of open_clip; default ViT-B-16, --all: {models.MODELS}"
    )
    parser.add_argument("--labels", nargs="+", choices=class_names.LABEL_SETS, help="default: all; a step's: two")
    parser.add_argument("--frames", nargs="+", type=int, help="frames of the one video; default 8, --all: 1 8 32")
    parser.add_argument("--measure", nargs="+", choices=cases.MEASURES, default=cases.MEASURES)
    parser.add_argument("--modes", nargs="+", choices=cases.MODES, help="default: train text and steps, infer images")
    parser.add_argument("--subjects", nargs="+", choices=cases.SUBJECTS, help="default: bare at inference alone")
    parser.add_argument("--precision", nargs="+", choices=cases.PRECISIONS, help="autocast; default fp32")
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), help="default: the GPU if there is one")
    parser.add_argument(
        "--rounds", type=int, help="times each is timed; default 3, on a GPU 20; 2 if that takes minutes"
    )
    parser.add_argument("--all", action="store_true", help="everything that is not said otherwise; hours on a CPU")
    parser.add_argument("--again", action="store_true", help="repeat measurements that are in the file already")
    parser.add_argument("--plan", action="store_true", help="print the estimated time and memory, and stop")
    parser.add_argument(
        "--memory-gb", type=float, help="above which others than the library run in parts; default 70%%"
    )
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="results; pictures go beside them")
    return parser


def chosen_cases(chosen: argparse.Namespace) -> list[Case]:
    """The cases that a command line asks for."""
    everything = chosen.all
    gpu = ["cuda"] if torch.cuda.is_available() else []
    devices = chosen.devices or (["cpu", *gpu] if everything else gpu or ["cpu"])
    precisions = {"cpu": ["fp32"], "cuda": cases.PRECISIONS if everything else ["fp32"]}
    return cases.select(
        devices=[(device, precision) for device in devices for precision in chosen.precision or precisions[device]],
        models=chosen.models or (models.MODELS if everything else ["ViT-B-16"]),
        measures=chosen.measure,
        modes=chosen.modes or (cases.MODES if everything else None),
        labels=chosen.labels or (class_names.LABEL_SETS if everything else None),
        frames=chosen.frames or (cases.FRAMES if everything else [8]),
    )


def subjects_of(case: Case, chosen: argparse.Namespace) -> Sequence[str]:
    """Bare open_clip has nothing to train but all its weights, which takes longest: only where it was asked for."""
    everything = chosen.all or case.mode == "inference"
    return chosen.subjects or (cases.SUBJECTS if everything else ("literal", "library"))


def rounds_of(case: Case, chosen: argparse.Namespace) -> int:
    """How often each subject is timed."""
    rounds = chosen.rounds or {"cpu": 3, "cuda": 20}[case.device]
    return cases.rounds_of(case, rounds, torch.get_num_threads())


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
        outcomes[name] = out.float() if case.mode == "inference" else bench.gradients()
        found[name] = {"parts": len(subject.parts), "saved_bytes": kept.saved, "peak_bytes": kept.peak}
    difference = None
    if "literal" in outcomes and "library" in outcomes:
        difference = relative_error(outcomes["library"], outcomes["literal"])
        if case.precision == "fp32" and not difference < DIFFERENCE:
            raise AssertionError(f"{case.key}: library and literal computation differ by {difference:.1e}")
    if case.mode == "train" and "library" in subjects:
        found["library"]["flops"] = measure.flops_of(subjects["library"])

    times = measure.interleaved(
        {name: lambda subject=subject: measure.run(subject, case)[0] for name, subject in subjects.items()},
        rounds,
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
        "difference": difference if difference is not None and math.isfinite(difference) else None,
        "subjects": found,
    }


if __name__ == "__main__":
    main()
