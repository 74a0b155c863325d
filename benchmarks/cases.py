"""The measurements, the selection that a command line makes, and an estimate of their cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import class_names, floor, models

MEASURES = ("text", "step", "image")
MODES = ("train", "inference")
SUBJECTS = ("bare", "literal", "library")
FRAMES = (1, 8, 32)
PRECISIONS = ("fp32", "bf16", "fp16")
# Seen on one thread of an AMD EPYC of the third generation, and on nothing: a guess, so that a plan can be printed.
FLOPS_PER_SECOND = {"cpu": 29e9, "cuda": 30e12}
# Of one token in one layer, in units of its width, while everything is kept for the backward pass.
KEPT_PER_TOKEN = 10.5


@dataclass(frozen=True)
class Case:
    """One line of the results: `text` has no frames, `image` no labels, and a training `step` has both."""

    device: str
    precision: str
    model: str
    measure: str
    mode: str
    labels: str | None = None
    frames: int | None = None

    @property
    def key(self) -> str:
        """Its name in the results.

        >>> Case("cpu", "fp32", "ViT-B-16", "step", "train", "ucf101", 8).key
        'cpu/fp32/ViT-B-16/step/train/ucf101/8'
        """
        parts = (self.device, self.precision, self.model, self.measure, self.mode, self.labels, self.frames)
        return "/".join(str(part) for part in parts if part is not None)


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one forward pass, by formula."""

    bare: float
    literal: float
    floor: float


def work(case: Case) -> Work:
    """What a case computes, see `floor`."""
    sizes = models.sizes(case.model)
    bare = least = 0.0
    literal = floor.text_maps(sizes) + floor.vision_maps(sizes)  # it writes out the prompts of both towers
    if case.labels is not None:
        names = class_names.read_names(case.labels)
        own = class_names.own_tokens(names)
        bare += floor.whole_text(sizes, len(own))
        literal += floor.whole_text(sizes, len(own))
        least += floor.text_floor(sizes, own, class_names.places_of_beginnings(names))
    if case.frames is not None:
        bare += floor.whole_vision(sizes, case.frames, n_ctx=0)
        literal += floor.whole_vision(sizes, case.frames, sizes.n_ctx)
        least += floor.vision_floor(sizes, case.frames)
    return Work(bare, literal, least)


def kept_bytes(case: Case, texts: int, frames: int) -> float:
    """Rough number of bytes that a token-by-token training step keeps for its backward pass."""
    sizes = models.sizes(case.model)
    text = texts * class_names.CONTEXT_LENGTH * sizes.text_width * sizes.text_layers
    vision = frames * (sizes.patches + 1 + sizes.n_ctx) * sizes.vision_width * sizes.vision_layers
    return (4 if case.precision == "fp32" else 2) * KEPT_PER_TOKEN * (text + vision)


def rounds_of(case: Case, rounds: int, threads: int) -> int:
    """How often each subject is timed: twice if a run takes over half a minute, more often if 2% must be visible."""
    if seconds_of_run(case, "literal", threads) > 30:
        return min(rounds, 2)
    return 3 * rounds if case.measure == "image" and case.mode == "inference" else rounds


def seconds_of_run(case: Case, subject: str, threads: int) -> float:
    """What one run of a subject is going to take; it is a plan, not a measurement."""
    # The backward pass through frozen weights costs as much as the forward pass, with their gradients twice as much.
    passes = 1 if case.mode == "inference" else {"bare": 3, "literal": 2, "library": 2}[subject]
    flops = {"bare": work(case).bare, "literal": work(case).literal, "library": work(case).floor}[subject]
    return passes * flops / FLOPS_PER_SECOND[case.device] / (threads if case.device == "cpu" else 1)


def planned_seconds(case: Case, subjects: Sequence[str], rounds: int, threads: int) -> float:
    """What a case is going to take: a first run that warms up and looks at memory, then the rounds."""
    run = sum(seconds_of_run(case, subject, threads) for subject in subjects)
    return (1 + rounds) * run


def select(
    *,
    devices: Sequence[tuple[str, str]],
    models: Sequence[str],
    measures: Sequence[str],
    modes: Sequence[str] | None,
    labels: Sequence[str] | None,
    frames: Sequence[int],
) -> list[Case]:
    """All combinations of the requested settings.

    Args:
        devices: Pairs of device and precision.
        models: Names of models.
        measures: Of `MEASURES`.
        modes: Of `MODES`. None: training for trained subjects, and inference for subjects with cached class features.
        labels: Of `class_names.LABEL_SETS`; None: all, and for a training step the fewest and the most classes.
        frames: Frames of the one video.
    """
    found = []
    for device, precision in devices:
        for model in models:
            for measure in measures:
                sets = [None] if measure == "image" else labels or _label_sets(measure)
                counts = [None] if measure == "text" else frames
                for mode in modes or (["inference"] if measure == "image" else ["train"]):
                    if measure == "step" and mode == "inference":
                        continue
                    found += [
                        Case(device, precision, model, measure, mode, label_set, count)
                        for label_set in sets
                        for count in counts
                    ]
    return found


def _label_sets(measure: str) -> Sequence[str]:
    sets = class_names.LABEL_SETS
    return sets if measure == "text" else (sets[0], sets[-1])
