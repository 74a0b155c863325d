"""Compares `torch.compile` with eager mode: text, a training step and inference, on one device.

Texts are packed beforehand, as `docs/deploy.md` shows. Rounds of eager and compiled runs alternate in one process; a
ratio is the median over the rounds. Weights are random, class names real; nothing is downloaded. The default takes a
few minutes on two CPU cores, most of them for the compiler.

  python -m benchmarks.compiled
  python -m benchmarks.compiled --measure text --labels kinetics400
  python -m benchmarks.compiled --write docs/performance.md

Shapes: C classes, T frames, D features.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence

import torch

from benchmarks import cases, machine, measure, models, pages
from benchmarks.cases import Case
from benchmarks.results import Ratio
from benchmarks.subjects import Bench, Inputs, Subject


def compiled_subject(
    bench: Bench, subject: Subject, case: Case, inputs: Inputs, *, backend: str = "inductor", dynamic: bool = False
) -> Subject:
    """A subject whose parts are compiled, each as a whole. The library takes packed texts.

    Args:
        bench: The models.
        subject: The subject.
        case: What is measured.
        inputs: Its inputs.
        backend: The backend of `torch.compile`.
        dynamic: Whether one graph serves other sizes.
    """
    torch._dynamo.reset()
    if subject.name == "library" and inputs.ids is not None:
        inputs = copy.copy(inputs)
        inputs.ids = bench.prompted.pack_text(inputs.ids)
        subject = bench.subject("library", case, inputs, float("inf"))
    parts = [torch.compile(part, dynamic=dynamic, backend=backend) for part in subject.parts]
    return dataclasses.replace(subject, parts=parts)


def rows(bench: Bench, wanted: Sequence[Case], rounds: int, backend: str, dynamic: bool) -> Iterator[str]:
    """The lines of the table, one for each case."""
    yield "| case | eager, s | compiled, s | eager / compiled | compiling, s |"
    yield "|---|---|---|---|---|"
    for case in wanted:
        inputs = Inputs(case, bench.sizes)
        eager = bench.subject("library", case, inputs, float("inf"))
        compiled = compiled_subject(bench, eager, case, inputs, backend=backend, dynamic=dynamic)
        start = time.perf_counter()
        measure.run(compiled, case)
        compiling = time.perf_counter() - start
        measure.run(eager, case)
        subjects = {"eager": eager, "compiled": compiled}
        found = measure.interleaved(
            {
                name: lambda subject=subject, case=case: measure.run(subject, case)[0]
                for name, subject in subjects.items()
            },
            rounds,
        )
        seconds = {name: [each.total for each in taken] for name, taken in found.items()}
        ratios = [first / second for first, second in zip(seconds["eager"], seconds["compiled"], strict=True)]
        ratio = Ratio(statistics.median(ratios), min(ratios), max(ratios))
        medians = " | ".join(f"{statistics.median(taken):.3g}" for taken in seconds.values())
        what = {"text": "text, forward and backward", "step": "training step", "image": "inference"}[case.measure]
        sizes = ([case.labels] if case.labels else []) + ([f"frames: {case.frames}"] if case.frames else [])
        yield f"| {', '.join([what, *sizes])} | {medians} | {ratio} | {compiling:.0f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and writes it into pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--model", default="ViT-B-16", choices=(*models.MODELS, "tiny"))
    parser.add_argument("--measure", nargs="+", choices=cases.MEASURES, default=cases.MEASURES)
    parser.add_argument("--labels", default="hmdb51", help="a list of class names")
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--precision", default="fp32", choices=cases.PRECISIONS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--dynamic", action="store_true", help="compile one graph for all sizes")
    pages.add_write_option(parser)
    options = parser.parse_args(arguments)
    wanted = cases.select(
        devices=[(options.device, options.precision)],
        models=[options.model],
        measures=options.measure,
        modes=None,
        labels=[options.labels],
        frames=[options.frames],
    )
    where = machine.name(machine.describe(options.device))
    found = [f"{options.model}, {options.precision}, {where}:", ""]
    print("\n".join(found), flush=True)
    for line in rows(Bench(options.model, options.device), wanted, options.rounds, options.backend, options.dynamic):
        print(line, flush=True)
        found.append(line)
    pages.write(parser, options.write, {"compiled": "\n".join(found)})


if __name__ == "__main__":
    main()
