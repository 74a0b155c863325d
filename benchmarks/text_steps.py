"""What each step of the text tower's work brings, and where its time goes: forward and backward with real class names.

`python benchmarks/text_steps.py` takes the library as it is and with one of its steps changed, in turn, and prints how
many times as long each takes; then the shares of the time, as torch's profiler sees them. Two or three minutes on two
CPU cores; the smallest of several times is taken, since a busy machine can only add to it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import class_names
import models
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import vilt_prompt
from vilt_prompt import packing
from vilt_prompt.open_clip_towers import TextTower

Step = Callable[[], contextlib.AbstractContextManager[object]]


@contextlib.contextmanager
def beginnings_not_shared() -> Iterator[None]:
    """Packed, but each text has tokens of its own: no two nodes of the tree are one."""
    make = packing.Packing.__init__

    def own_nodes(self: packing.Packing, texts: list[list[int]], *rest: object) -> None:
        make(self, [[(number, token) for token in text] for number, text in enumerate(texts)], *rest)  # type: ignore

    with mock.patch.object(packing.Packing, "__init__", own_nodes):
        yield


def joined_keys(
    self: packing.Packing, block: object, q: Tensor, before_k: Tensor, before_v: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Attention by torch's fused kernel, which wants the prefix's keys beside those of each text: copies of them."""
    attended = []
    for group in self.groups:
        spread_q, spread_k, spread_v = (group.spread_out(part).transpose(0, 1) for part in (q, k, v))  # [g h l d]
        keys, values = (
            torch.cat([before.expand(len(spread), -1, -1, -1), spread], dim=2)
            for before, spread in ((before_k, spread_k), (before_v, spread_v))
        )
        seen = torch.ones(group.length, keys.shape[2], dtype=torch.bool).tril(before_k.shape[1])
        out = F.scaled_dot_product_attention(spread_q, keys, values, attn_mask=seen)
        attended.append(group.own_places(out.transpose(0, 1)))
    return torch.cat(attended, dim=1)


STEPS: dict[str, Step] = {
    "as it is": contextlib.nullcontext,
    "cropped after the last end token, not packed": lambda: mock.patch.object(TextTower, "_packing", return_value=None),
    "packed, shared beginnings run for each text": beginnings_not_shared,
    "the prefix's keys copied to each text, fused attention": lambda: mock.patch.object(
        packing.Packing, "_attend", joined_keys
    ),
    "one group of texts for attention": lambda: mock.patch.object(packing, "WORTH_A_GROUP", 10**12),
    "a group for each size of texts": lambda: mock.patch.object(packing, "WORTH_A_GROUP", 0),
    "tokens spread out kept for the backward pass": lambda: mock.patch.object(packing, "TOO_MANY_TO_KEEP", 10**12),
    "tokens spread out made anew": lambda: mock.patch.object(packing, "TOO_MANY_TO_KEEP", 0),
}

# What the profiler's names belong to; the first that a name begins with.
SHARES = {
    "linear maps": ("aten::addmm", "aten::mm"),
    "attention": ("aten::bmm", "aten::_softmax", "aten::masked_fill", "aten::_scaled_dot_product"),
    "norms and activations": ("aten::native_layer_norm", "aten::gelu", "aten::sigmoid", "aten::mul", "aten::add"),
    "moving rows": ("aten::index", "aten::_index", "aten::cat", "aten::copy_", "aten::fill_", "aten::sum"),
}


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
    torch.set_num_threads(1)  # processor time is wall time then, and nothing is shared out
    sizes = models.sizes(chosen.model)
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


if __name__ == "__main__":
    main()
