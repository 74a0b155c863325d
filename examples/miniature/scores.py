"""The accuracy of each action, from the predictions of many runs."""

from collections.abc import Mapping, Sequence

from examples.miniature.jobs import Job
from examples.miniature.paired import Scores, class_means
from examples.miniature.rows import Row
from examples.miniature.run import averaged, repeated, task_of
from examples.miniature.runs import Record
from examples.miniature.tasks import Tasks

Records = Mapping[Job, Record]
Cell = tuple[str, int]  # who is in the test, and the seed
RECALL_AT = (1, 5)


def cells_of(records: Records, setting: str, method: str, shots: Sequence[int]) -> set[Cell]:
    """The tests and seeds that a method has run with every K."""
    each = [
        {(job.person, job.seed) for job in records if (job.setting, job.method, job.shots) == (setting, method, K)}
        for K in shots
    ]
    return set.intersection(*each)


def scores_of(records: Records, tasks: Tasks, setting: str, row: Row, K: int, cells: Sequence[Cell]) -> Scores:
    """For each test, the mean over runs and scenes of each action, (C,)."""
    hits: dict[str, list[bool]] = {}
    actions: dict[str, list[int]] = {}
    number = {action: n for n, action in enumerate(tasks.actions)}
    for person, seed in cells:
        job = Job(setting, row.method, person, seed, K)
        for name, test in task_of(job, tasks).tests.items():
            if setting == "retrieval":
                # A caption is a person's kind and an action.
                of_class = [number[caption.split(" ", 1)[1]] for caption in test.classes]
                found = records[job]["ranks"][name]["captions"]
                for k in RECALL_AT:
                    hits.setdefault(f"{name} R@{k}", []).extend(rank <= k for rank in found)
                    actions.setdefault(f"{name} R@{k}", []).extend(of_class)
            elif (kept := averaged(name, row.weight) if row.weight else name) in records[job]["predictions"]:
                labels = repeated(test.labels)
                found = records[job]["predictions"][kept]
                hits.setdefault(name, []).extend(a == b for a, b in zip(found, labels, strict=True))
                actions.setdefault(name, []).extend(number[test.classes[label]] for label in labels)
    return {name: class_means(hits[name], actions[name], len(number)) for name in hits}
