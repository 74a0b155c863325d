"""Does one run: trains its method on its task, and keeps every prediction."""

import time
from collections.abc import Mapping

import torch
from baselines import linear_probe, nearest_centroid
from miniature.jobs import Job
from miniature.learner import Base, Learner
from miniature.methods import METHODS
from miniature.runs import Record
from miniature.scenes import CLEAN, TESTS, TRAINING, TRAINING_SCENES, Scenes
from miniature.tasks import GRID_SEED, Examples, Task, Tasks
from torch import Generator, Tensor

from vilt_prompt.protocols import ranks

RETRIEVAL_RATE, RETRIEVAL_STEPS = 5e-3, 60  # not chosen: there is no grid for retrieval


def task_of(job: Job, tasks: Tasks) -> Task:
    """What a run learns and is tested on."""
    if job.setting == "grid":
        return tasks.grid(job.person)
    if job.setting == "zero-shot":
        return tasks.zero_shot()
    if job.setting == "retrieval":
        return tasks.retrieval(job.seed)
    make = tasks.base_to_novel if job.setting == "base-novel" else tasks.few_shot
    return make(job.person, job.seed, job.shots)


def chosen(job: Job, records: Mapping[Job, Record], tasks: Tasks) -> tuple[float, int]:
    """Learning rate and length: those of the run of the grid that is right most often; of equals, the first.

    Raises:
        KeyError: If a run of the grid is not done.
    """
    if job.setting == "grid":
        return job.rate, job.steps
    if job.setting == "retrieval":
        return RETRIEVAL_RATE, RETRIEVAL_STEPS
    labels = tasks.grid(job.person).tests["validation"].labels

    best = max(job.grid, key=lambda point: accuracy(records[point]["predictions"]["validation"], labels))
    return best.rate, best.steps


def accuracy(predictions: list[int], labels: list[int]) -> float:
    """The share of scenes whose class was predicted."""
    return sum(a == b for a, b in zip(predictions, labels, strict=True)) / len(labels)


def repeated(labels: list[int]) -> list[int]:
    """The label of each test scene: all scenes of the first clip, all of the second, ..."""
    return [label for label in labels for _ in TESTS]


def run(job: Job, records: Mapping[Job, Record], base: Base, scenes: Scenes, tasks: Tasks) -> Record:
    """Trains and tests."""
    start = time.perf_counter()
    method, task = METHODS[job.method], task_of(job, tasks)
    seed = GRID_SEED if job.setting == "grid" else job.seed
    torch.manual_seed(seed)
    learner = Learner(method, base, scenes)
    record: Record = {"trained": sum(parameter.numel() for parameter in learner.trained)}
    if method.trains != "nothing":
        rate, steps = chosen(job, records, tasks)
        steps *= method.longer
        record |= {"rate": rate, "steps": steps}
        learn = learner.learn_captions if job.setting == "retrieval" else learner.learn_classes
        learn(task.shots, rate, steps, Generator().manual_seed(seed))
    if job.setting == "retrieval":
        record["ranks"] = {name: search(learner, test) for name, test in task.tests.items()}
    else:
        record["predictions"] = predictions(job, learner, task)
    return {**record, "seconds": round(time.perf_counter() - start, 1)}


def predictions(job: Job, learner: Learner, task: Task) -> dict[str, list[int]]:
    """The class of each test scene, by the name of the test; with the first seed, of clean scenes too."""
    kinds = {"": TRAINING if job.setting == "grid" else TESTS}
    if job.seed == 0 and job.setting != "grid":
        kinds[" clean"] = CLEAN
    found: dict[str, list[int]] = {}
    for name, test in task.tests.items():
        for kind, numbers in kinds.items():
            if not learner.method.baseline:
                with torch.no_grad():
                    classes = learner.classes(test.classes)
                found[name + kind] = (learner.encode(test.clips, numbers) @ classes.T).argmax(-1).tolist()
            elif test.classes == task.shots.classes:  # they know nothing of others
                found[name + kind] = baseline(learner, task.shots, test, numbers).tolist()
    return found


def baseline(learner: Learner, shots: Examples, test: Examples, numbers: list[int]) -> Tensor:
    """What a centroid of pixels, or a probe of frozen features, says of scenes."""
    own = TRAINING_SCENES[: learner.method.scenes]
    labels = torch.tensor(shots.labels).repeat_interleave(len(own))
    if learner.method.baseline == "centroid":
        scenes = learner.scenes
        return nearest_centroid(scenes.videos(shots.clips, own), labels, scenes.videos(test.clips, numbers))
    persons = [person for person in shots.persons for _ in own]
    return linear_probe(learner.encode(shots.clips, own), labels, persons, learner.encode(test.clips, numbers))


def search(learner: Learner, test: Examples) -> dict[str, list[int]]:
    """The rank of the first clip that belongs to each caption, and of the caption of each clip."""
    with torch.no_grad():
        texts = learner.classes(test.classes) if learner.method.prompts else learner.base.texts(test.classes)
    similarity = texts @ learner.encode(test.clips, TESTS[:1]).T  # [captions, clips]
    relevant = torch.arange(len(test.classes)).unsqueeze(1) == torch.tensor(test.labels)
    return {"captions": ranks(similarity, relevant).tolist(), "clips": ranks(similarity.T, relevant.T).tolist()}
