"""Time, memory and floating-point operations of subjects, in one process."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler complains where a CUDA build of torch finds no GPU

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import Case
from benchmarks.subjects import Subject


class Seconds(NamedTuple):
    """Of one run: its forward pass, and all of it."""

    forward: float
    total: float


class Memory(NamedTuple):
    """Bytes of one run. If it ran in parts, the peak is the one of a run that keeps all parts at once."""

    saved: int  # distinct storages that autograd keeps for the backward pass, without weights; 0 at inference
    peak: int  # the most bytes that were allocated at once, above the bytes before the run


def run(subject: Subject, case: Case, after_part: Callable[[], None] = lambda: None) -> tuple[Seconds, Tensor]:
    """Runs a subject once, part by part, and gives what its last part returned."""
    forward = total = 0.0
    with subject.ready():
        for part in subject.parts:
            start = _now(case.device)
            if case.mode == "inference":
                with torch.no_grad():
                    out = part()
                middle = end = _now(case.device)
            else:
                out = part()
                middle = _now(case.device)
                out.backward()
                end = _now(case.device)
            forward, total = forward + middle - start, total + end - start
            out = out.detach()
            after_part()
    return Seconds(forward, total), out


def interleaved(runs: dict[str, Callable[[], Seconds]], rounds: int) -> dict[str, list[Seconds]]:
    """So many rounds in which each runs once; the order is turned round every time."""
    found: dict[str, list[Seconds]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else reversed(runs):
            found[name].append(runs[name]())
    return found


def memory_of(subject: Subject, case: Case, weights: Iterable[Tensor]) -> tuple[Memory, Tensor]:
    """Measure the bytes that one run keeps and allocates. The result of its last part is returned too."""
    frozen = {weight.untyped_storage().data_ptr() for weight in weights}
    kept: dict[int, int] = {}
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a node that saves its own output would otherwise hold itself

    def part_is_done() -> None:
        saved.append(sum(kept.values()))
        kept.clear()

    with (
        _peak(case.device) as peak,
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        _, out = run(subject, case, part_is_done)
    # Parts ran one after another: had they run as one, the peak would have been as many times higher as more was kept.
    scale = sum(saved) / max(saved) if len(saved) > 1 else 1
    return Memory(sum(saved), round(scale * peak[0])), out


def flops_of(subject: Subject) -> int:
    """Floating-point operations of a forward pass with gradients on, by torch's own counter.

    The counter does not see fused attention, so attention is computed as matrix products.
    """
    counter = FlopCounterMode(display=False)
    with subject.ready(), counter, sdpa_kernel(SDPBackend.MATH):
        for part in subject.parts:
            part()
    return counter.get_total_flops()


@contextmanager
def _peak(device: str) -> Iterator[list[int]]:
    found: list[int] = []
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        yield found
        torch.cuda.synchronize()
        found.append(torch.cuda.max_memory_allocated() - before)
        return
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        yield found
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    found.append(peak_of(events))


def peak_of(events: Iterable[dict]) -> int:
    """The most bytes that were allocated at once in a trace of torch's profiler, above the bytes before it.

    >>> sizes = [100, 50, -100, 20]
    >>> peak_of({"name": "[memory]", "ts": i, "args": {"Bytes": size}} for i, size in enumerate(sizes))
    150
    """
    allocated = most = 0
    for event in sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"]):
        allocated += event["args"]["Bytes"]
        most = max(most, allocated)
    return most


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
