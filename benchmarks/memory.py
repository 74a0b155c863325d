"""How much memory a training step on one video takes, and inference, counted.

`python -m benchmarks.memory` prints two tables for ViT-B/16 within a minute or two: a training step, with and without
checkpoints and chunks, and inference, beside the bare model. Nothing is computed: under torch's `FakeTensorMode`
tensors have shapes and lifetimes alone, so neither a GPU nor the memory is needed. It counts the bytes of all tensors
that are alive at once; an allocator rounds them up, and CUDA itself and the workspaces of its libraries come on top.

  python -m benchmarks.memory
  python -m benchmarks.memory --write docs/performance.md
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import open_clip
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import vilt_prompt
from benchmarks import pages
from tests.support.live_memory import LiveMemory, size_of, tensors_of

MIB = 2**20
CARRIED_FROM = 6  # layers with a prompt of their own; behind them, it is carried on as a token


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


def inference_peaks(model: nn.Module, images: int) -> tuple[int, int]:
    """Count the most bytes at one time while images are encoded with prompts, and by the bare model."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    height, width = model.visual.image_size
    known = [fake.from_tensor(tensor) for tensor in tensors_of(model)]
    with fake, torch.no_grad():
        batch = torch.empty(images, 3, height, width)
        with LiveMemory(batch, *known) as library:
            model.encode_image(batch)
        with model.disable_adapter(), LiveMemory(batch, *known) as bare:
            model.encode_image(batch)
    return library.peak, bare.peak


def training_table(model: nn.Module, frames: int) -> Iterator[str]:
    """The lines of the table of a training step on one video."""
    yield f"{'layers':12} {'precision':10} {'chunks of':>9} {'model':>7} {'saved':>7} {'step':>7} {'together':>8}"
    for checkpointed in (False, True):
        model.set_grad_checkpointing(checkpointed)
        for autocast in (False, True):
            for chunk in (None, 8, 1):
                if checkpointed and chunk == 1:
                    continue
                memory = training_step(model, frames, chunk, autocast)
                size, saved, peak = (round(part / MIB) for part in memory)
                yield (
                    f"{'checkpointed' if checkpointed else 'kept':12} {'bfloat16' if autocast else 'float32':10} "
                    f"{chunk or 'all':>9} {size:7} {saved:7} {peak:7} {size + peak:8}"
                )
    model.set_grad_checkpointing(False)


def inference_table(models: Mapping[str, nn.Module]) -> Iterator[str]:
    """The lines of the table of inference, for models by the name of their prompts."""
    yield f"{'prompts':24} {'frames':>6} {'bare':>8} {'library':>8} {'library / bare':>14}"
    for name, model in models.items():
        for frames in (1, 8):
            library, bare = inference_peaks(model.eval(), frames)
            yield f"{name:24} {frames:6} {bare / MIB:8.1f} {library / MIB:8.1f} {library / bare:14.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables, and writes them into pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16", help="a name of open_clip's")
    parser.add_argument("--frames", type=int, default=32, help="of the video of a training step")
    pages.add_write_option(parser)
    args = parser.parse_args(arguments)

    def wrapped(depth: int | None = None) -> nn.Module:
        return vilt_prompt.wrap(open_clip.create_model(args.model), n_ctx=10, depth=depth)

    model = wrapped()
    carried = {f"in {CARRIED_FROM} layers, then carried": wrapped(CARRIED_FROM)}
    made = {
        "memory": (f"{args.model}, one video of {args.frames} frames, MiB", training_table(model, args.frames)),
        "inference_memory": (f"{args.model}, MiB", inference_table({"in all layers": model} | carried)),
    }
    for name, (title, lines) in made.items():
        found = ["```", title]
        print(title, flush=True)
        for line in lines:
            print(line, flush=True)
            found.append(line)
        pages.write(parser, args.write, {name: "\n".join([*found, "```"])})
        print()


if __name__ == "__main__":
    main()
