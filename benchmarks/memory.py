"""How much memory a training step on one video takes, counted, with and without checkpoints and chunks.

`python -m benchmarks.memory` prints a table for 32 frames of ViT-B/16 within a minute or two. Nothing is computed:
under torch's `FakeTensorMode` tensors have shapes and lifetimes alone, so neither a GPU nor the memory is needed.
It counts the bytes of all tensors that are alive at once; an allocator rounds them up, and CUDA itself and
the workspaces of its libraries come on top.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import open_clip
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import vilt_prompt
from tests.support.live_memory import LiveMemory, size_of, tensors_of

MIB = 2**20


class Memory(NamedTuple):
    """Bytes: all parameters and buffers; what lives between forward and backward; the most at one time in a step."""

    model: int
    saved: int
    peak: int


def training_step(model: nn.Module, frames: int, frames_per_chunk: int | None = None, autocast: bool = False) -> Memory:
    """Count the forward and backward pass of a wrapped model on one video with a number of frames."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    height, width = model.visual.image_size
    with fake:
        video = torch.empty(1, frames, 3, height, width)
    with LiveMemory(video, *(fake.from_tensor(tensor) for tensor in tensors_of(model))) as memory, fake:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            features = model.encode_video(video, frames_per_chunk=frames_per_chunk)
        saved = memory.bytes
        features.float().sum().backward()
    model.zero_grad()
    return Memory(size_of(model), saved, memory.peak)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16", help="a name of open_clip's")
    parser.add_argument("--frames", type=int, default=32)
    args = parser.parse_args()
    model = vilt_prompt.wrap(open_clip.create_model(args.model), n_ctx=10)
    print(f"{args.model}, one video of {args.frames} frames, MiB")
    print(f"{'layers':12} {'precision':10} {'chunks of':>9} {'model':>7} {'saved':>7} {'step':>7} {'together':>8}")
    for checkpointed in (False, True):
        model.set_grad_checkpointing(checkpointed)
        for autocast in (False, True):
            for chunk in (None, 8, 1):
                if checkpointed and chunk == 1:
                    continue
                memory = training_step(model, args.frames, chunk, autocast)
                size, saved, peak = (round(part / MIB) for part in memory)
                print(
                    f"{'checkpointed' if checkpointed else 'kept':12} {'bfloat16' if autocast else 'float32':10} "
                    f"{chunk or 'all':>9} {size:7} {saved:7} {peak:7} {size + peak:8}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
