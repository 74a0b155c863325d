"""How many times as fast as the literal computation the library is, and the prompted image tower as the bare one.

Prints ratios of times taken in one process, in turn, with ViT-B/16 and random weights; nothing is downloaded.
`python benchmarks/speed.py` runs all three measurements: about nine minutes on two CPU cores, and 11 GB of memory.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from torch import Tensor

import vilt_prompt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from literal import learnable_tensors, literal_encode_text, literal_encode_video, literal_prompts, literal_settings

N_CTX = 10


def class_names_as_ids(classes: int) -> Tensor:
    """Token ids (C, 77) of class names of two or three tokens."""
    ids = torch.zeros(classes, 77, dtype=torch.long)
    ids[:, 0] = 49406
    for row in range(classes):
        length = 2 + row % 2
        ids[row, 1 : 1 + length] = torch.randint(1000, 40000, (length,))
        ids[row, 1 + length] = 49407
    return ids


def pairs_of_times(first: Callable[[], object], second: Callable[[], object], pairs: int) -> list[tuple[float, float]]:
    """Seconds of both, taken in turn after a warm-up; which of them goes first alternates."""
    times: list[tuple[float, float]] = []
    for pair in range(-1, pairs):
        taken = {}
        for function in (first, second) if pair % 2 else (second, first):
            start = time.perf_counter()
            function()
            taken[function] = time.perf_counter() - start
        if pair >= 0:
            times.append((taken[first], taken[second]))
    return times


def report(what: str, times: list[tuple[float, float]], names: tuple[str, str]) -> None:
    """Prints the median of the ratios pair by pair, their range, and both medians."""
    ratios = sorted(a / b for a, b in times)
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    print(
        f"{what}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} pairs); "
        f"{names[0]} {medians[0]:.2f} s, {names[1]} {medians[1]:.2f} s",
        flush=True,
    )


def measure_training(base: torch.nn.Module, classes: int, frames: int, pairs: int) -> None:
    """Forward and backward, of the text tower alone (no frames) or of a whole step with one video."""
    model = vilt_prompt.wrap(copy.deepcopy(base), K=6, n_ctx=N_CTX)
    ids = class_names_as_ids(classes)
    video = torch.randn(1, frames, 3, 224, 224) if frames else None
    labels = torch.zeros(1, dtype=torch.long)
    direction = torch.randn(classes, 512)
    tensors = learnable_tensors(model)
    settings = literal_settings(base, K=6)

    def loss(text_features: Tensor, video_features: Tensor | None) -> Tensor:
        if video_features is None:
            return (text_features * direction).sum()
        return torch.nn.functional.cross_entropy(video_features @ text_features.T, labels)

    def ours() -> None:
        model.zero_grad()
        loss(model.encode_text(ids), None if video is None else model.encode_video(video)).backward()

    def literal() -> None:
        model.zero_grad()
        text_prompts, vision_prompts = literal_prompts(tensors, text_layers=12, vision_layers=12, **settings)
        video_features = None if video is None else literal_encode_video(base, video, vision_prompts)
        loss(literal_encode_text(base, ids, text_prompts), video_features).backward()

    what = f"training step, {classes} classes, {frames} frames" if frames else f"encode_text fwd+bwd, {classes} classes"
    report(f"{what}, literal / library", pairs_of_times(literal, ours, pairs), ("literal", "library"))


def measure_inference(base: torch.nn.Module, images: int, pairs: int) -> None:
    """`encode_image` with prompts in all layers, without gradients, against the bare model."""
    model = vilt_prompt.wrap(copy.deepcopy(base), n_ctx=N_CTX, method="independent").eval()
    batch = torch.randn(images, 3, 224, 224)
    with torch.no_grad():
        times = pairs_of_times(lambda: model.encode_image(batch), lambda: base.encode_image(batch), pairs)
    report(f"encode_image, {images} images, library / bare", times, ("library", "bare"))


def main() -> None:
    """Runs the measurements that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("text", "step", "image"), help="one measurement instead of all three")
    parser.add_argument("--pairs", type=int, default=7, help="pairs of runs (the whole step takes 3 at most)")
    args = parser.parse_args()
    torch.manual_seed(0)
    base = open_clip.create_model("ViT-B-16").eval().requires_grad_(False)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if args.only in (None, "text"):
        measure_training(base, classes=51, frames=0, pairs=args.pairs)
    if args.only in (None, "image"):
        measure_inference(base, images=4, pairs=3 * args.pairs)
    if args.only in (None, "step"):
        measure_training(base, classes=400, frames=4, pairs=min(3, args.pairs))


if __name__ == "__main__":
    main()
