"""The phases of a run: training, and tests of the model with its prompts and without them."""

import argparse
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import vilt_prompt
from examples.startup.command_line import announce

PROMPTED, FROZEN = "prompted", "frozen"  # the model with its prompts, and without them
Numbers = TypeVar("Numbers")


@dataclass(frozen=True)
class Tested(Generic[Numbers]):
    """The results of a test.

    Attributes:
        metrics: Of the model with and without prompts, as far as they were tested, by name.
        numbers: Which videos could be decoded.
    """

    metrics: dict[str, dict[str, float]]
    numbers: Numbers


def prompts(model: vilt_prompt.PromptPeftModel, kind: str) -> contextlib.AbstractContextManager[Any]:
    """A block in which the model has its prompts, or has none."""
    return model.disable_adapter() if kind == FROZEN else contextlib.nullcontext()


def run_phases(
    train: Callable[[], dict[str, float] | None] | None,
    test: Callable[[Sequence[str]], Tested[Numbers]],
    args: argparse.Namespace,
) -> tuple[dict[str, float], dict[str, float], Numbers]:
    """Trains where there is something to train on, and tests with and without prompts.

    Args:
        train: Trains, and returns the metrics of the last test, or None where that test must be run again. None:
            there is nothing to train on.
        test: Tests PROMPTED, FROZEN or both.
        args: The options of the script.

    Returns:
        The results, those of the frozen model, and which videos of the test could be decoded. Where nothing is
        trained and no adapter is given, the results are those of the frozen model.
    """
    found: dict[str, dict[str, float]] = {}
    only_frozen = train is None and args.adapter is None
    tested = None
    if args.evaluate_before or only_frozen:
        tested = test((FROZEN,))
        found |= tested.metrics
    if train is not None:
        for name, value in found.get(FROZEN, {}).items():
            announce(f"before the training: {name} {value:.2f}")
        metrics = train()
        if metrics is not None:
            found[PROMPTED] = metrics
    kinds = [kind for kind in (PROMPTED, FROZEN) if kind not in found and not (only_frozen and kind == PROMPTED)]
    if kinds:
        tested = test(kinds)
        found |= tested.metrics
    assert tested is not None  # the frozen model is tested before the training or after it
    return found.get(PROMPTED, found[FROZEN]), found[FROZEN], tested.numbers
