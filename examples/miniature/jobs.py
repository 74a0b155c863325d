"""The runs that the ablation is made of, the most important ones first."""

from collections.abc import Iterator
from dataclasses import dataclass

from miniature.actions import PERSONS
from miniature.methods import METHODS, MORE_SCENES

SEEDS = 5
SHOTS = 8
FEW_SHOTS = (8, 1, 4, 2)  # 12 is all that there is: 16, the paper's most, does not exist here
RATES = (5e-4, 5e-3, 3e-2)  # the grid: learning rates by lengths
LENGTHS = (15, 30)  # steps

UNTRAINED = ["zero-shot", "centroid", "probe"]
TRAINED = ["coop", "kgcoop", "vilt", "independent", "maple12", "vpt", "tuning", "maple9"]
TABLE_6 = ["vilt-alpha0", "independent-alpha0", "independent-n14", "text", "text-scenario"]
TRIED = ["vilt-s4", "vilt-longer", *(name for name in MORE_SCENES if name != "vilt-s4")]
OPEN = [name for name in METHODS if name.startswith("vilt-") and name not in ("vilt-alpha0", "vilt-n6", *TRIED)]
TABLE_8 = [
    "zero-shot",
    "vilt-n6",
    "text-n4",
    "independent-n4-4",
    "independent-n4-6",
    "independent-n4-8",
    "independent-n6-6",
]


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        setting: "zero-shot", "grid", "base-novel", "few-shot" or "retrieval".
        method: A name in `METHODS`.
        person: Who is in the test.
        seed: Of the classes, the shots, the prompts and the order.
        shots: K.
        rate: Learning rate, for the grid alone: it decides those of the other runs.
        steps: The same of the length.
    """

    setting: str
    method: str
    person: str = ""
    seed: int = 0
    shots: int = 0
    rate: float = 0.0
    steps: int = 0

    @property
    def key(self) -> str:
        """Its name, also that of its file."""
        parts = [self.setting, self.method, self.person]
        parts += [f"k{self.shots}"] * (self.shots > 0) + [f"lr{self.rate:g}-steps{self.steps}"] * (self.steps > 0)
        return "_".join([part for part in parts if part] + [f"seed{self.seed}"])

    @property
    def grid(self) -> list["Job"]:
        """The runs that must be done before, and decide learning rate and length."""
        method = METHODS[self.method]
        if self.setting in ("grid", "zero-shot", "retrieval") or method.trains == "nothing":
            return []
        return [
            Job("grid", method.like or self.method, self.person, rate=rate, steps=steps)
            for steps in LENGTHS
            for rate in RATES
        ]


def all_jobs(seeds: int = SEEDS) -> list[Job]:
    """All runs, each once: whatever time there is, what is done first makes the more important tables.

    All seeds of a method come before the next method, as a method with few seeds says little; what takes seconds, as
    the image tower stays as it is, comes before what takes longer.
    """
    cheap = [name for name in dict.fromkeys(TRAINED + TABLE_6) if METHODS[name].frozen_vision]
    first, *others = PERSONS
    listed = [Job("zero-shot", "zero-shot")]
    for person in PERSONS:
        listed += _runs("base-novel", UNTRAINED + cheap, person, seeds)
    listed += _runs("base-novel", TRAINED + TABLE_6 + TRIED, first, seeds)
    for methods in (UNTRAINED + [name for name in TRAINED if name in cheap], TRAINED):
        for shots in FEW_SHOTS:
            listed += _runs("few-shot", methods, first, seeds, shots)
        listed += _runs("retrieval", TABLE_8[:2], "", seeds, 0)
    listed += _runs("base-novel", OPEN, first, seeds)
    listed += _runs("retrieval", TABLE_8, "", seeds, 0)
    for person in others:
        listed += _runs("base-novel", TRAINED + TABLE_6 + TRIED + OPEN, person, seeds)
        for shots in FEW_SHOTS:
            listed += _runs("few-shot", UNTRAINED + TRAINED, person, seeds, shots)
    return list(dict.fromkeys(listed))


def _runs(setting: str, methods: list[str], person: str, seeds: int, shots: int = SHOTS) -> Iterator[Job]:
    for method in methods:
        jobs = [Job(setting, method, person, seed, shots) for seed in range(seeds)]
        yield from jobs[0].grid
        yield from jobs
