"""The library's targets for speed and memory, and whether a record meets them."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.results import Record, bytes_ratio, inputs, ratio, setting

REFERENCE = ("cpu", "fp32", "ViT-B-16")  # the setting for which the targets on ratios of time and memory were set
SHARE_OF_TOKENS = 0.85
SAVED = 12.0
STEP = {"kinetics400": 8.0, "hmdb51": 2.5}  # with one video of 8 frames
INFERENCE = 1.02
FLOPS = 1.02


class Target(NamedTuple):
    """A measured number, its bound, and whether the bound is an upper or a lower one."""

    what: str
    target: float
    at_least: bool
    measured: float
    spread: str = ""

    @property
    def met(self) -> bool:
        """Whether the number is on the right side."""
        return self.measured >= self.target if self.at_least else self.measured <= self.target

    @property
    def bound(self) -> str:
        """The target as it is printed.

        >>> Target("a ratio", 12.0, True, 13.0).bound
        'at least 12'
        """
        return f"{'at least' if self.at_least else 'at most'} {self.target:g}"


def targets(record: Record) -> list[Target]:
    """The targets that a record has something to say on."""
    case, found = record["case"], []
    where = ", ".join([*inputs(record), *reversed(setting(record))])
    faster = ratio(record, "literal", "library")
    if case["mode"] == "train" and setting(record) == REFERENCE and faster is not None:
        if case["measure"] == "text":
            allowed = record["token_ratios"]["own"]
            spread = f"{faster} of {allowed:.3g}"
            what = f"text, forward and backward, {case['labels']}: share of the speed-up that the token counts allow"
            found.append(Target(what, SHARE_OF_TOKENS, True, faster.median / allowed, spread))
            saved = bytes_ratio(record, "literal", "library", "saved_bytes")
            if saved is not None:
                what = f"text, {case['labels']}: saved activations, literal / library"
                found.append(Target(what, SAVED, True, saved))
        if case["measure"] == "step" and case["frames"] == 8 and case["labels"] in STEP:
            what = f"training step, {case['labels']}, 8 frames: literal / library"
            found.append(Target(what, STEP[case["labels"]], True, faster.median, str(faster)))
    slower = ratio(record, "library", "bare")
    if case["measure"] == "image" and case["mode"] == "inference" and slower is not None:
        what = f"inference, {where}: library / bare"
        found.append(Target(what, INFERENCE, False, slower.median, str(slower)))
    counted = record["subjects"].get("library", {}).get("flops")
    if counted is not None:
        what = f"{case['measure']}, {where}: FLOPs of a forward pass / floor"
        found.append(Target(what, FLOPS, False, counted / record["flops"]["floor"]))
    return found
