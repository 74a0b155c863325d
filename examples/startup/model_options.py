"""Options that say which open_clip model a script works on. Nothing slow is imported, so that `--help` is quick."""

import argparse
import math
import os
from pathlib import Path

SMALL_CLIP = Path(__file__).parents[1] / "small_clip" / "emoji-vit-12x128"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--model`, `--pretrained` and `--device`."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="ViT-B-16-quickgelu",
        help="a name of open_clip, local-dir:FOLDER or hf-hub:REPOSITORY (default: %(default)s)",
    )
    group.add_argument("--pretrained", help='its weights, such as "openai"; local-dir: and hf-hub: bring their own')
    group.add_argument("--device", help="cpu or cuda (default: a GPU where there is one)")


def cores() -> int:
    """The number of cores for this process: the machine's, divided among the processes that torchrun started."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, found // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def number_or_model(text: str) -> float | str:
    """Reads `--temperature`: a number, or "model"."""
    try:
        return float(text)
    except ValueError:
        return text


def is_temperature(given: object) -> bool:
    """Whether it is "model", or a positive and finite number."""
    return given == "model" or (isinstance(given, float | int) and 0 < given < math.inf)


def check_temperature(given: float | str) -> None:
    """Checks `--temperature`.

    Raises:
        ValueError: If it is neither "model" nor a positive and finite number.
    """
    if not is_temperature(given):
        raise ValueError(f'--temperature must be a positive and finite number, or "model", got {given}')


def check_weight(weight: float) -> None:
    """Checks `--frozen-weight`.

    Raises:
        ValueError: If it is not in 0..1.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"--frozen-weight must be in 0..1, got {weight}")
