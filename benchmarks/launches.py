"""Counts what a GPU would be asked for: operations, and the times that Python waits for the device.

On a GPU the number of kernels and of waits decides how fast a small batch runs, and both can be counted on a CPU.
An operation is a call that PyTorch dispatches to a kernel; views are left out, for they launch nothing. A wait is a
read of values (`.item()`, `.tolist()`, `bool(tensor)`, `nonzero`, a boolean index). A copy is a tensor made from
Python's numbers or moved to a device. Each call is made twice with the same token ids, and the second one is counted.
The bare model's attention at inference is one fused operation here, which is several kernels on a GPU.

The model is ViT-B/16 with a narrow width, on which no count depends.

  python -m benchmarks.launches
  python -m benchmarks.launches --labels hmdb51 --frames 1
  python -m benchmarks.launches --write docs/performance.md

Shapes: C classes, T frames, D features.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import models, pages
from benchmarks.cases import Case
from benchmarks.subjects import Bench, Inputs

WAITS = {"item", "tolist", "nonzero", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__"}
# These allocate or rename memory and start no kernel.
SILENT = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided"}
SILENT |= {"aten::detach", "aten::lift_fresh", "aten::alias", "aten::_reshape_alias"}


@dataclass
class Count:
    """What one call asked for."""

    forward: int = 0
    backward: int = 0
    waits: int = 0
    copies: int = 0


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not function.is_view and function._schema.name not in SILENT:
            self.count += 1
        return function(*args, **(kwargs or {}))


class _Waits(TorchFunctionMode):
    def __init__(self, count: Count) -> None:
        super().__init__()
        self.counted = count

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in WAITS or (name in ("__getitem__", "__setitem__") and _has_bool(args[1])):
            self.counted.waits += 1
        if name in ("tensor", "as_tensor") and not isinstance(args[0], Tensor):
            self.counted.copies += 1
        if name == "to" and any(isinstance(each, torch.device | str) for each in (*args[1:], *kwargs.values())):
            self.counted.copies += 1
        return function(*args, **kwargs)


def _has_bool(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)


def counted(call: Callable[[], Tensor], backward: bool) -> Count:
    """Makes the call, and the backward pass of its result if wanted, and counts their operations."""
    count = Count()
    with _Waits(count):
        with _Operations() as operations:
            result = call()
        count.forward = operations.count
        if backward:
            with _Operations() as operations:
                result.sum().backward()
            count.backward = operations.count
    return count


def count_launches(call: Callable[[], Tensor], backward: bool) -> Count:
    """The operations, waits and copies of a call when it is made for the second time.

    Args:
        call: It returns a tensor of any shape.
        backward: Whether the backward pass of its sum belongs to it.
    """
    counted(call, backward)
    return counted(call, backward)


def table(model: str, labels: list[str], frames: int) -> list[tuple[str, str, Count]]:
    """A row (what, subject, count) for text, video, step and inference of each subject."""
    bench = Bench(model, "cpu")
    cases = [(f"encode_text, {name}", Case("cpu", "fp32", model, "text", "train", name)) for name in labels]
    cases += [(f"encode_video, {frames} frame(s)", Case("cpu", "fp32", model, "step", "train", None, frames))]
    cases += [
        (f"step, {name}, {frames} frame(s)", Case("cpu", "fp32", model, "step", "train", name, frames))
        for name in labels
    ]
    cases += [
        (f"encode_video, inference, {frames} frame(s)", Case("cpu", "fp32", model, "image", "inference", None, frames))
    ]
    rows = []
    for what, case in cases:
        inputs = Inputs(case, bench.sizes)
        for name in ("bare", "literal", "library"):
            subject = bench.subject(name, case, inputs, memory=float("inf"))
            (call,) = subject.parts
            with subject.ready(), torch.set_grad_enabled(case.mode == "train"):
                rows.append((what, name, count_launches(call, case.mode == "train")))
    return rows


def markdown(rows: list[tuple[str, str, Count]]) -> str:
    """The table of `docs/performance.md`."""
    lines = ["| | | forward | backward | waits | copies |", "|---|---|---|---|---|---|"]
    lines += [f"| {what} | {name} | {c.forward} | {c.backward} | {c.waits} | {c.copies} |" for what, name, c in rows]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Prints the table, and writes it into pages."""
    parser = argparse.ArgumentParser(
        description="Counts operations and waits: library, literal computation, bare model."
    )
    parser.add_argument("--model", default=models.NARROW, choices=(*models.MODELS, "tiny", models.NARROW))
    parser.add_argument("--labels", nargs="+", default=["hmdb51", "kinetics400"], help="lists of class names")
    parser.add_argument("--frames", type=int, default=1)
    pages.add_write_option(parser)
    options = parser.parse_args(argv)
    made = markdown(table(options.model, options.labels, options.frames))
    pages.write(parser, options.write, {"launches": made})
    print(made)


if __name__ == "__main__":
    main()
