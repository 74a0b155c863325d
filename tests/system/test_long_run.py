"""Many training steps while adapters come and go: the loss stays finite, and memory does not grow.

VILT_LONG_RUN=2000 python -m pytest -m slow tests/system/test_long_run.py -s    # prints its figures
"""

from __future__ import annotations

import gc
import math
import os
import statistics
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensor

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import build, class_ids, frames
from vilt_prompt import PromptConfig

STEPS = int(os.environ.get("VILT_LONG_RUN", "120"))
ROUND = 20  # steps, after which all adapters are as they were at the beginning
WARM_UP = 3  # rounds
SETTINGS = {"K": 2, "n_ctx": 3}


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def live_tensors() -> tuple[int, int]:
    """How many tensors there are, and how many numbers they hold. Those that torch.compile leaves hold nothing."""
    gc.collect()
    objects = (thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor))
    tensors = [tensor for tensor in objects if not isinstance(tensor, FakeTensor)]
    return len(tensors), sum(tensor.numel() for tensor in tensors)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory from /proc")
def test_memory_is_flat_and_the_loss_finite_while_adapters_come_and_go(tmp_path):
    torch.manual_seed(0)
    model = vilt_prompt.wrap(build("4/4"), **SETTINGS).train()
    model.add_adapter("rival", PromptConfig(**SETTINGS))
    clip = model.get_base_model()
    ids, video = class_ids(clip, [1, 3, 2, 3]), frames(clip, 4, 2)
    labels = torch.arange(4)
    criterion = vilt_prompt.ScenarioGuidedLoss(torch.nn.functional.normalize(torch.randn(4, 24), dim=-1))
    optimisers = {
        name: torch.optim.AdamW(learnable_tensors(model, name).values(), lr=1e-3) for name in ("default", "rival")
    }
    model.save_pretrained(tmp_path)
    losses: list[float] = []
    measured: list[tuple[int, int, int, float]] = []
    tracemalloc.start()
    try:
        for step in range(STEPS):
            model.set_adapter("default" if step % 2 else "rival")
            model.set_grad_checkpointing(step % 3 == 0)
            loss = criterion(model.encode_video(video), model.encode_text(ids), labels)
            optimisers[model.active_adapter].zero_grad()
            loss.backward()
            optimisers[model.active_adapter].step()
            losses.append(loss.item())

            run, stage = divmod(step, ROUND)
            new, renamed, mean = f"new {run}", f"renamed {run}", f"mean {run}"  # never the same name twice
            if stage == 0:
                model.add_adapter(new, PromptConfig.preset("maple", n_ctx=2))
            elif stage == 3:
                model.set_adapter(new)
                criterion(model.encode_video(video), model.encode_text(ids), labels).backward()
                model.zero_grad()
            elif stage == 5:
                model.rename_adapter(new, renamed)
            elif stage == 7:
                model.combine(["default", "rival"], [2, 1], adapter_name=mean)
            elif stage == 9:
                with torch.no_grad(), model.use_adapter(mean), model.use_adapter(renamed):
                    model.encode_video(video)
            elif stage == 11:
                with torch.no_grad(), model.disable_adapter():
                    model.encode_text(ids)
            elif stage == 13:
                model.save_pretrained(tmp_path, selected_adapters=["default"])
                model.load_adapter(tmp_path, f"loaded {run}")
            elif stage == 15:
                model.set_adapter(renamed)
                with pytest.raises(ValueError, match="columns"):
                    model.encode_text(torch.zeros(1, 99, dtype=torch.long))
                model.set_adapter("default")
                model.delete_adapter(renamed)
            elif stage == 17:
                model.delete_adapter(mean)
                model.delete_adapter(f"loaded {run}")
            elif stage == ROUND - 1:
                assert list(model.peft_config) == ["default", "rival"]
                gc.collect()
                measured.append((*live_tensors(), tracemalloc.get_traced_memory()[0], resident_megabytes()))
    finally:
        tracemalloc.stop()

    tensors, numbers, traced, resident = zip(*measured[WARM_UP - 1 :], strict=True)
    growth = statistics.median(later - earlier for earlier, later in pairwise(traced))
    print(
        f"\n{STEPS} steps: loss {losses[0]:.2f} to {losses[-1]:.2f}; after warm-up and at the end: "
        f"{tensors[0]} and {tensors[-1]} tensors of {numbers[0]:,} and {numbers[-1]:,} numbers, "
        f"{traced[0] / 1024:,.0f} and {traced[-1] / 1024:,.0f} KiB of Python's "
        f"({growth / 1024:.1f} more in each {ROUND} steps), "
        f"{resident[0]:,.1f} and {resident[-1]:,.1f} MiB resident"
    )
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
    assert set(tensors) == {tensors[0]}
    assert set(numbers) == {numbers[0]}
    # Our own list of losses grows, and now and then a table of Python's doubles: what each round adds must be little.
    assert growth < 16 * 1024
    assert resident[-1] - resident[0] < 20
