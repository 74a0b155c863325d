"""The accuracy of each action, from the predictions of many runs."""

from collections.abc import Mapping, Sequence

from miniature.jobs import Job
from miniature.paired import Scores, class_means
from miniature.run import repeated, task_of
from miniature.runs import Record
from miniature.tasks import Tasks

Records = Mapping[Job, Record]
Cell = tuple[str, int]  # who is in the test, and the seed
RECALL_AT = (1, 5)


def common(
    records: Records, setting: str, methods: Sequence[str], shots: Sequence[int], featured: str
) -> tuple[list[str], list[Cell]]:
    """Methods, and the tests and seeds that each of these has run with every K: what is paired.

    Of all such choices with the featured method, where that has runs, the one with the most runs: a method that has
    just begun would leave the others with its few seeds.
    """
    cells: dict[str, set[Cell]] = {}
    for method in methods:
        per_shots = [
            {(job.person, job.seed) for job in records if (job.setting, job.method, job.shots) == (setting, method, K)}
            for K in shots
        ]
        if shared := set.intersection(*per_shots):
            cells[method] = shared
    if not cells:
        return [], []
    choices = [own for own in cells.values() if own <= cells.get(featured, own)]
    best = max(choices, key=lambda own: len(own) * sum(own <= other for other in cells.values()))
    return [method for method, own in cells.items() if best <= own], sorted(best)


def scores_of(records: Records, tasks: Tasks, setting: str, method: str, K: int, cells: Sequence[Cell]) -> Scores:
    """For each test, the mean over runs and scenes of what belongs to each action, (C,)."""
    hits: dict[str, list[bool]] = {}
    actions: dict[str, list[int]] = {}
    number = {action: n for n, action in enumerate(tasks.actions)}
    for person, seed in cells:
        job = Job(setting, method, person, seed, K)
        for name, test in task_of(job, tasks).tests.items():
            if setting == "retrieval":
                # A caption is a person's kind and an action.
                of_class = [number[caption.split(" ", 1)[1]] for caption in test.classes]
                found = records[job]["ranks"][name]["captions"]
                for k in RECALL_AT:
                    hits.setdefault(f"{name} R@{k}", []).extend(rank <= k for rank in found)
                    actions.setdefault(f"{name} R@{k}", []).extend(of_class)
            elif name in records[job]["predictions"]:
                labels = repeated(test.labels)
                found = records[job]["predictions"][name]
                hits.setdefault(name, []).extend(a == b for a, b in zip(found, labels, strict=True))
                actions.setdefault(name, []).extend(number[test.classes[label]] for label in labels)
    return {name: class_means(hits[name], actions[name], len(number)) for name in hits}
