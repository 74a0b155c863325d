"""What each step of the text tower's work brings, and where its time goes: forward and backward with real class names.

`python -m benchmarks.text_steps` takes the library as it is and with one of its steps changed, in turn, and prints how
many times as long each takes; then the shares of the time, as torch's profiler sees them. Two or three minutes on two
CPU cores; the smallest of several times is taken, since a busy machine can only add to it.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import vilt_prompt
from benchmarks import class_names, models
from vilt_prompt.towers import open_clip_ids, packing
from vilt_prompt.towers.open_clip_ids import IdReader

Step = Callable[[], contextlib.AbstractContextManager[object]]


@contextlib.contextmanager
def beginnings_not_shared() -> Iterator[None]:
    """Packed, but each text has tokens of its own: no two nodes of the tree are one."""
    pack = packing.pack

    def own_nodes(texts: Sequence[list[int]], first: Tensor) -> packing.PackedTexts:
        # So that no two texts begin alike, each token carries the number of its text, which is then taken off again.
        packed = pack([[(number, token) for token in text] for number, text in enumerate(texts)], first)  # type: ignore
        return packed._replace(ids=packed.ids[:, 1])

    with mock.patch.object(open_clip_ids, "pack", own_nodes):
        yield


STEPS: dict[str, Step] = {
    "as it is": contextlib.nullcontext,
    "cropped after the last end token, not packed": lambda: mock.patch.object(IdReader, "packed", return_value=None),
    "packed, shared beginnings run for each text": beginnings_not_shared,
    "a row of attention for each text": lambda: mock.patch.object(packing, "ROW", 0),
    "rows of up to 64 tokens": lambda: mock.patch.object(packing, "ROW", 64),
}

# The step that each name in the profile belongs to. The first matching prefix counts.
SHARES = {
    "linear maps": ("aten::addmm", "aten::mm"),
    "attention": ("aten::_scaled_dot_product", "aten::bmm", "aten::_softmax", "aten::masked_fill"),
    "norms and activations": ("aten::native_layer_norm", "aten::gelu", "aten::sigmoid", "aten::mul", "aten::add"),
    "moving rows": ("aten::index", "aten::_index", "aten::cat", "aten::copy_", "aten::fill_", "aten::sum"),
}


class LinearMaps:
    """Only the linear maps of all layers, on a number of tokens: the work that no arrangement of the rest can avoid."""

    def __init__(self, width: int, layers: int, tokens: int) -> None:
        shapes = ((3 * width, width), (width, width), (4 * width, width), (width, 4 * width))
        self.weights = [torch.randn(shape) for _ in range(layers) for shape in shapes]
        self.tokens = {size: torch.randn(tokens, size) for size in (width, 3 * width, 4 * width)}

    def __call__(self) -> None:
        """One forward and one backward pass."""
        for weight in self.weights:
            F.linear(self.tokens[weight.shape[1]], weight)
            self.tokens[weight.shape[0]] @ weight


def smallest_wall_time(run: Callable[[], None], rounds: int) -> float:
    """The smallest time, after a first run that warms up."""
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def smallest_times(run: Callable[[], None], rounds: int) -> dict[str, float]:
    """The smallest processor time of each step, all of them taken in turn."""
    times: dict[str, float] = {}
    for _ in range(rounds + 1):
        for name, step in STEPS.items():
            with step():
                start = time.process_time()
                run()
                times[name] = min(times.get(name, float("inf")), time.process_time() - start)
    return times


def shares(run: Callable[[], None]) -> dict[str, float]:
    """The shares of the time inside torch's operators."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    found = dict.fromkeys([*SHARES, "all else"], 0.0)
    for event in profiler.key_averages():
        kind = next((kind for kind, names in SHARES.items() if event.key.startswith(names)), "all else")
        found[kind] += event.self_cpu_time_total
    total = sum(found.values())
    return {kind: part / total for kind, part in found.items()}


def main(arguments: list[str] | None = None) -> None:
    """Prints a line for each step and label set, and the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16", choices=(*models.MODELS, "tiny"))
    parser.add_argument("--labels", nargs="+", default=["hmdb51", "ssv2"], choices=class_names.LABEL_SETS)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    sizes, threads = models.sizes(chosen.model), torch.get_num_threads()
    torch.set_num_threads(1)  # processor time is wall time then, and nothing is shared out
    model = vilt_prompt.wrap(models.build(chosen.model, "cpu"), K=sizes.K, n_ctx=models.N_CTX)
    for labels in chosen.labels:
        ids = class_names.token_ids(class_names.read_names(labels))
        gradient = torch.randn(len(ids), sizes.embed_dim)

        def run(ids: Tensor = ids, gradient: Tensor = gradient) -> None:
            model.zero_grad()
            (model.encode_text(ids) * gradient).sum().backward()

        times = smallest_times(run, chosen.rounds)
        print(f"{chosen.model}, {labels}, {len(ids)} classes, one thread: {times['as it is']:.2f} s as it is")
        for name, seconds in times.items():
            print(f"  {seconds / times['as it is']:5.2f}  {name}")
        print("  of the time: " + ", ".join(f"{kind} {part:.0%}" for kind, part in shares(run).items()))
        own = class_names.own_tokens(class_names.read_names(labels))
        few, many = sum(own), 77 * len(own)
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            maps = [LinearMaps(sizes.text_width, sizes.text_layers, tokens) for tokens in (few, many)]
            seconds = [smallest_wall_time(run_maps, chosen.rounds) for run_maps in maps]
            print(
                f"  linear maps alone, {count} thread{'s' * (count > 1)}: {seconds[0]:.3f} s for {few} tokens, "
                f"{seconds[1]:.2f} s for {many}: {seconds[1] / seconds[0]:.1f} times as long, of {many / few:.1f}"
            )
        torch.set_num_threads(1)


if __name__ == "__main__":
    main()
