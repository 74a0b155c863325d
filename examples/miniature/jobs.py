"""The runs that the ablation is made of, the most important ones first."""

from collections.abc import Iterator
from dataclasses import dataclass

from miniature.actions import PERSONS
from miniature.methods import METHODS

SEEDS = 5
SHOTS = 8
RATES = (5e-4, 5e-3, 3e-2)  # the grid: learning rates by lengths
LENGTHS = (20, 40)  # steps

UNTRAINED = ["zero-shot", "centroid", "probe"]
TRAINED = ["coop", "kgcoop", "vilt", "independent", "maple9", "maple12", "vpt", "tuning"]
TABLE_6 = ["text", "text-scenario", "vilt-alpha0", "independent-alpha0", "independent-n14"]
OPEN = [name for name in METHODS if name.startswith("vilt-") and name not in ("vilt-alpha0", "vilt-n6")]
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
    """All runs, each once: whatever time there is, what is done first makes the more important tables."""
    listed = [Job("zero-shot", "zero-shot")]
    for person in PERSONS:
        first = person == PERSONS[0]
        listed += _with_grids(_base_novel(UNTRAINED + TRAINED, person, seeds))
        listed += _with_grids(_base_novel(TABLE_6, person, seeds))
        if first:
            listed += [job for method in TABLE_8[:2] for job in _retrieval(method, seeds)]
        for shots in (8, 4, 2, 1) if first else ():
            listed += _few_shot(shots, person, seeds)
        if first:
            listed += _with_grids(_base_novel(OPEN, person, seeds))
            listed += [job for method in TABLE_8 for job in _retrieval(method, seeds)]
    for person in PERSONS[1:]:
        listed += [job for shots in (8, 4, 2, 1) for job in _few_shot(shots, person, seeds)]
        listed += _with_grids(_base_novel(OPEN, person, seeds))
    return list(dict.fromkeys(listed))


def _base_novel(methods: list[str], person: str, seeds: int) -> Iterator[Job]:
    # All methods of one seed before the next one: what is cut short is still paired.
    for seed in range(seeds):
        for method in methods:
            yield Job("base-novel", method, person, seed, SHOTS)


def _few_shot(shots: int, person: str, seeds: int) -> Iterator[Job]:
    for seed in range(seeds):
        for method in UNTRAINED + TRAINED:
            yield Job("few-shot", method, person, seed, shots)


def _retrieval(method: str, seeds: int) -> Iterator[Job]:
    for seed in range(seeds):
        yield Job("retrieval", method, "", seed)


def _with_grids(jobs: Iterator[Job]) -> list[Job]:
    listed = list(jobs)
    return [grid for job in listed for grid in job.grid] + listed
