"""Does one run: trains its method on its task, and keeps every prediction."""

import time
import zlib
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from examples.miniature.baselines import linear_probe
from examples.miniature.jobs import Job
from examples.miniature.learner import Base, Learner
from examples.miniature.methods import METHODS
from examples.miniature.runs import Record
from examples.miniature.scenes import TESTS, Scenes
from examples.miniature.tasks import Examples, Task, Tasks
from examples.miniature.training_scenes import PROBE_SCENES, TrainingScenes
from examples.paper.protocols.metrics import ranks

RETRIEVAL_RATE, RETRIEVAL_STEPS = 5e-3, 60  # not chosen
WEIGHTS = (0.25, 0.5, 0.75)  # of the frozen model in averaged scores; 0.5 was fixed before the runs


def task_of(job: Job, tasks: Tasks) -> Task:
    """The examples that a run learns from and is tested on."""
    if job.setting == "rate":
        return tasks.rate(job.person)
    if job.setting == "zero-shot":
        return tasks.zero_shot()
    if job.setting == "retrieval":
        return tasks.retrieval(job.seed)
    make = tasks.base_to_novel if job.setting == "base-novel" else tasks.few_shot
    return make(job.person, job.seed, job.shots)


def seed_of(job: Job) -> int:
    """A seed for the prompts, the scenes and the order: equal for all methods, different for each fold.

    Folds must not share their chance: the bootstrap takes runs of different folds for different samples.
    """
    return zlib.crc32(f"{job.setting}/{job.person}/{job.seed}".encode())


def chosen_rate(job: Job, records: Mapping[Job, Record], tasks: Tasks) -> float:
    """The learning rate that was right most often on the person that it was judged on; of equals, the first.

    Raises:
        KeyError: If one of the runs that decide it is not done.
    """
    if job.setting == "rate":
        return job.rate
    if job.setting == "retrieval":
        return RETRIEVAL_RATE
    labels = repeated(tasks.rate(job.person).tests["validation"].labels)
    return max(job.rates, key=lambda point: accuracy(records[point]["predictions"]["validation"], labels)).rate


def accuracy(predictions: list[int], labels: list[int]) -> float:
    """The share of scenes whose class was predicted."""
    return sum(a == b for a, b in zip(predictions, labels, strict=True)) / len(labels)


def repeated(labels: list[int]) -> list[int]:
    """The label of each test scene: all scenes of the first clip, all of the second, ..."""
    return [label for label in labels for _ in TESTS]


def averaged(test: str, weight: float) -> str:
    """The name under which a record keeps the predictions of averaged scores.

    Example:
        >>> averaged("base", 0.5)
        'base, 0.5 frozen'
    """
    return f"{test}, {weight:g} frozen"


def run(
    job: Job, records: Mapping[Job, Record], base: Base, scenes: Scenes, training: TrainingScenes, tasks: Tasks
) -> Record:
    """Trains and tests.

    Args:
        job: The run.
        records: Those of the runs that decide its learning rate.
        base: The frozen model.
        scenes: The test scenes.
        training: The training scenes.
        tasks: All tasks.

    Returns:
        Every prediction, and how the run was trained.
    """
    start = time.perf_counter()
    method, task, seed = METHODS[job.method], task_of(job, tasks), seed_of(job)
    torch.manual_seed(seed)
    learner = Learner(method, base, scenes)
    record: Record = {"trained": sum(parameter.numel() for parameter in learner.trained)}
    if job.setting == "retrieval":
        if method.is_trained:
            generator = Generator().manual_seed(seed)
            learner.learn_captions(task.shots, RETRIEVAL_RATE, RETRIEVAL_STEPS, generator)
        record["ranks"] = {name: search(learner, test) for name, test in task.tests.items()}
    elif job.method == "probe":
        record["predictions"] = probe(learner, task, training, seed)
    else:
        if method.is_trained:
            rate, steps = chosen_rate(job, records, tasks), training.steps(task.shots)
            record |= {"rate": rate, "steps": steps}
            batches = training.frozen_batches if method.has_frozen_vision else training.batches
            learner.learn_classes(task.shots.classes, batches(task.shots, seed), rate, steps)
        record["predictions"] = predictions(learner, task)
    return {**record, "seconds": round(time.perf_counter() - start, 1)}


@torch.no_grad()
def predictions(learner: Learner, task: Task) -> dict[str, list[int]]:
    """The predicted class of each test scene, by the name of the test; of trained models, of averaged scores too."""
    found: dict[str, list[int]] = {}
    for name, test in task.tests.items():
        scores = learner.encode(test.clips, TESTS) @ learner.classes(test.classes).T
        found[name] = scores.argmax(-1).tolist()
        if learner.method.is_trained:
            videos = F.normalize(learner.scenes.frozen(test.clips, TESTS), dim=-1)
            frozen = videos @ learner.base.template(test.classes).T
            for weight in WEIGHTS:
                found[averaged(name, weight)] = torch.lerp(scores, frozen, weight).argmax(-1).tolist()
    return found


def probe(learner: Learner, task: Task, training: TrainingScenes, seed: int) -> dict[str, list[int]]:
    """The predictions of a linear probe on frozen features. It has none for classes without shots."""
    shots = task.shots
    features = F.normalize(training.frozen(shots, seed, PROBE_SCENES), dim=-1)
    labels, persons = torch.tensor(shots.labels).repeat(PROBE_SCENES), shots.persons * PROBE_SCENES
    return {
        name: linear_probe(features, labels, persons, learner.encode(test.clips, TESTS)).tolist()
        for name, test in task.tests.items()
        if test.classes == shots.classes
    }


def search(learner: Learner, test: Examples) -> dict[str, list[int]]:
    """The rank of the first clip that belongs to each caption, and of the caption of each clip."""
    with torch.no_grad():
        texts = learner.classes(test.classes) if learner.method.prompts else learner.base.texts(test.classes)
    similarity: Tensor = texts @ learner.encode(test.clips, TESTS[:1]).T  # [captions, clips]
    relevant = torch.arange(len(test.classes)).unsqueeze(1) == torch.tensor(test.labels)
    return {"captions": ranks(similarity, relevant).tolist(), "clips": ranks(similarity.T, relevant.T).tolist()}
