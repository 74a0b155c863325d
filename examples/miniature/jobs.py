"""The runs of the experiment, the most important ones first."""

from collections.abc import Iterator
from dataclasses import dataclass

from examples.miniature.actions import PERSONS
from examples.miniature.methods import METHODS

SEEDS = 5
FIRST_SEEDS = 2  # that come before the others
FEW_SHOT_SEEDS = 3
SHOTS = 8
FEW_SHOTS = (8, 1, 4, 2)  # There are 12 clips of each action: the paper's 16 shots do not exist here.
RATES = (2e-3, 8e-3, 3e-2)

PRIMARY = ["zero-shot", "probe", "vilt", "independent", "vilt-tau007"]
TEXT_SIDE = ["coop", "kgcoop", "text"]
NEIGHBOURS = ["vpt", "maple12"]
VARIANTS = ["vilt-alpha1", "vilt-alpha0", "independent-alpha0", "independent-n14"]
FEW = ["zero-shot", "probe", "vilt"]
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
        setting: "zero-shot", "rate", "base-novel", "few-shot" or "retrieval".
        method: A name in `METHODS`.
        person: Who is in the test.
        seed: Of the classes, the shots, the prompts, the scenes and the order.
        shots: K.
        rate: The learning rate to try, in the setting "rate" alone. These runs decide the rate of the others.
    """

    setting: str
    method: str
    person: str = ""
    seed: int = 0
    shots: int = 0
    rate: float = 0.0

    @property
    def key(self) -> str:
        """Its name, which is also the name of its file."""
        parts = [self.setting, self.method, self.person]
        parts += [f"k{self.shots}"] * (self.shots > 0) + [f"lr{self.rate:g}"] * (self.rate > 0)
        return "_".join([part for part in parts if part] + [f"seed{self.seed}"])

    @property
    def rates(self) -> list["Job"]:
        """The runs that must be done before this one, because they decide its learning rate."""
        method = METHODS[self.method]
        if self.setting not in ("base-novel", "few-shot") or not method.is_trained:
            return []
        return [Job("rate", method.like or self.method, self.person, rate=rate) for rate in RATES]


def all_jobs(seeds: int = SEEDS) -> list[Job]:
    """All runs, each once, the most important ones first.

    Few seeds of all primary methods come before many of one. A seed is run on all folds before the next seed.
    """
    first, later = range(min(FIRST_SEEDS, seeds)), range(FIRST_SEEDS, seeds)
    listed = [Job("zero-shot", "zero-shot")]
    listed += _base_novel(["zero-shot", "probe", "vilt"], first)
    listed += _base_novel(["independent"], first)
    listed += _base_novel(["zero-shot", "probe", "vilt"], later)
    listed += _base_novel(["vilt-tau007"], first)
    listed += _base_novel(["independent"], later)
    listed += _base_novel(["vilt-tau007"], later)
    listed += _base_novel(TEXT_SIDE, range(seeds))
    listed += _base_novel(NEIGHBOURS, range(seeds))
    listed += _base_novel(VARIANTS, first)
    listed += _few_shot(range(min(1, seeds)))
    listed += _base_novel(VARIANTS, later)
    listed += _few_shot(range(min(FEW_SHOT_SEEDS, seeds)))
    listed += [Job("retrieval", method, seed=seed) for method in TABLE_8 for seed in range(seeds)]
    return list(dict.fromkeys(listed))


def _base_novel(methods: list[str], seeds: range) -> Iterator[Job]:
    """The rates of all folds, then all folds of the first seed, and so on."""
    jobs = [
        Job("base-novel", method, person, seed, SHOTS) for seed in seeds for person in PERSONS for method in methods
    ]
    for job in jobs:
        yield from job.rates
    yield from jobs


def _few_shot(seeds: range) -> Iterator[Job]:
    for seed in seeds:
        for shots in FEW_SHOTS:
            for person in PERSONS:
                yield from (Job("few-shot", method, person, seed, shots) for method in FEW)
