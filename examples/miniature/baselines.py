"""What a few shots give without prompts: comparing pixels, and a linear probe on frozen features.

Both know only the classes of their shots, so neither has a score for novel ones.
"""

from collections.abc import Sequence

import torch
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.model_selection import GridSearchCV, GroupKFold  # type: ignore[import-untyped]
from torch import Tensor


def nearest_centroid(shots: Tensor, labels: Tensor, tests: Tensor) -> Tensor:
    """The class whose mean shot is nearest to each test, (B,).

    Args:
        shots: Anything of one shape, (N, ...), such as pixels.
        labels: Classes 0..C - 1 of the shots, (N,).
        tests: As the shots, (B, ...).
    """
    shots, tests = shots.flatten(1), tests.flatten(1)
    centroids = torch.stack([shots[labels == number].mean(0) for number in range(int(labels.max()) + 1)])
    return torch.cdist(tests, centroids).argmin(1)


def linear_probe(shots: Tensor, labels: Tensor, persons: Sequence[str], tests: Tensor) -> Tensor:
    """Logistic regression on frozen features, (B,).

    Args:
        shots: Normalised features, (N, D).
        labels: Their classes, (N,).
        persons: Who is in each shot, N names: the regularisation is the one that carries over best to another person.
        tests: Normalised features, (B, D).
    """
    strengths = {"C": [1.0, 10.0, 100.0, 1000.0]}
    folds = GroupKFold(len(set(persons)))
    search = GridSearchCV(LogisticRegression(max_iter=2000), strengths, cv=folds)
    search.fit(shots.numpy(), labels.numpy(), groups=list(persons))
    return torch.from_numpy(search.predict(tests.numpy()))
