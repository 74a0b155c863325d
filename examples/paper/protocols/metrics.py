"""Accuracy of recognition, and recall and ranks of retrieval.

Shapes: B videos, C classes or captions, V views.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from examples.video.counts import check_counts


def average_views(logits: Tensor) -> Tensor:
    """The mean of the class probabilities, not of the logits, over the views of each video.

    Args:
        logits: (B, V, C), already divided by the temperature.

    Returns:
        (B, C), rows that sum to 1.

    Raises:
        TypeError: If the logits are not a float tensor.
        ValueError: If they are not of that shape, or one is NaN.
    """
    _check_scores("logits", logits, "(B, V, C)")
    return logits.softmax(dim=-1).mean(dim=1)


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """The share of videos, 0 to 1, for which fewer than k OTHER classes score at least as high as their own.

    So ties count against the prediction: a model that gives all classes one score gets 0.

    Args:
        scores: (B, C); probabilities, logits or cosines.
        labels: (B,), classes 0..C-1.
        k: 1 for top-1, 5 for top-5.

    Raises:
        TypeError: If the scores are not a float tensor, or the labels or k are not integers.
        ValueError: If shapes do not match, there is no video, a score is NaN, or a label or k is out of range.
    """
    _check_scores("scores", scores, "(B, C)")
    classes = scores.shape[1]
    _check_labels("labels", labels, len(scores), classes)
    check_counts(k=k)
    if k > classes:
        raise ValueError(f"expected k in 1..{classes} (the number of classes), got {k}")
    own = scores.gather(1, labels.long().unsqueeze(1))  # [B, 1]
    others = (scores >= own).sum(dim=1) - 1
    return (others < k).double().mean().item()


class RetrievalMetrics(NamedTuple):
    """How well queries find what belongs to them, in one direction.

    Attributes:
        recall_at_1: Share of queries, 0 to 1, with rank 1, the best.
        recall_at_5: With rank 5 or better.
        recall_at_10: With rank 10 or better.
        median_rank: Of an even number of queries, the mean of the middle two.
        mean_rank: Their mean.
    """

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float
    mean_rank: float

    @classmethod
    def of(cls, ranks: Tensor) -> RetrievalMetrics:
        """The metrics of one rank for each query.

        Args:
            ranks: (Q,), from 1.

        Raises:
            ValueError: If there is no rank, or one is below 1.
        """
        if not isinstance(ranks, Tensor) or ranks.ndim != 1 or len(ranks) == 0 or ranks.min() < 1:
            raise ValueError(f"ranks must be of shape (Q,), each at least 1, got {ranks!r}")
        at_1, at_5, at_10 = ((ranks <= k).double().mean().item() for k in (1, 5, 10))
        ordered = ranks.double().sort().values
        middle = (ordered[(len(ranks) - 1) // 2] + ordered[len(ranks) // 2]) / 2
        return cls(at_1, at_5, at_10, middle.item(), ordered.mean().item())


class Retrieval(NamedTuple):
    """Both directions.

    Attributes:
        text_to_video: Captions look for their videos.
        video_to_text: Videos look for their captions.
    """

    text_to_video: RetrievalMetrics
    video_to_text: RetrievalMetrics


def retrieval_metrics(similarity: Tensor, relevant: Tensor | None = None) -> Retrieval:
    """Recall and ranks of captions and videos that look for each other.

    Each query has one of the `ranks`.

    Args:
        similarity: (C, B), captions by videos; larger is more alike.
        relevant: What belongs together: bool (C, B), or the video of each caption, (C,). None: caption i and video i.

    Raises:
        TypeError: If `similarity` is not a float tensor, or `relevant` is neither bool nor integer.
        ValueError: If shapes do not match, a similarity is NaN, or a caption or a video has nothing that belongs to it.
    """
    _check_scores("similarity", similarity, "(C, B)")
    mask = _relevance(similarity, relevant)
    return Retrieval(
        RetrievalMetrics.of(ranks(similarity, mask, "caption")),
        RetrievalMetrics.of(ranks(similarity.T, mask.T, "video")),
    )


def ranks(similarity: Tensor, relevant: Tensor, query: str = "query") -> Tensor:
    """ONE rank for each query: 1 plus the irrelevant items that score at least as high as its best relevant one.

    So ties count against the query, and of several relevant items the best placed counts.

    Args:
        similarity: (Q, I), queries by items.
        relevant: Bool (Q, I), what belongs together.
        query: What a message calls a query.

    Returns:
        (Q,), from 1.

    Raises:
        TypeError: If `similarity` is not a float tensor.
        ValueError: If `relevant` is not bool and of its shape, a similarity is NaN, or nothing belongs to a query.
    """
    _check_scores("similarity", similarity, "(Q, I)")
    if getattr(relevant, "dtype", None) != torch.bool or relevant.shape != similarity.shape:
        raise ValueError(f"relevant must be bool of shape {tuple(similarity.shape)}, got {relevant!r}")
    found = relevant.any(dim=1)
    if not found.all():
        raise ValueError(f"{query} {int(found.int().argmin())} has nothing that belongs to it: leave it out")
    best = similarity.masked_fill(~relevant, -math.inf).amax(dim=1, keepdim=True)
    return 1 + ((similarity >= best) & ~relevant).sum(dim=1)


def _relevance(similarity: Tensor, relevant: Tensor | None) -> Tensor:
    captions, videos = similarity.shape
    if relevant is None:
        if captions != videos:
            raise ValueError(
                f"{captions} captions and {videos} videos do not pair off: pass `relevant`, the video of each caption"
            )
        relevant = torch.arange(captions)
    if getattr(relevant, "dtype", None) != torch.bool:
        _check_labels("relevant, unless it is bool (C, B),", relevant, captions, videos)
        relevant = relevant.unsqueeze(1) == torch.arange(videos, device=relevant.device)
    return relevant.to(similarity.device)


def _check_labels(name: str, labels: object, rows: int, count: int) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"{name} must be a tensor of integers, got {getattr(labels, 'dtype', labels)!r}")
    if labels.shape != (rows,):
        raise ValueError(f"{name} must be of shape ({rows},), got {tuple(labels.shape)}")
    if not ((labels >= 0) & (labels < count)).all():
        raise ValueError(f"{name} must be in 0..{count - 1}, got {int(labels.min())}..{int(labels.max())}")


def _check_scores(name: str, values: object, shape: str) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        raise TypeError(f"{name} must be a float tensor, got {getattr(values, 'dtype', type(values).__name__)}")
    if values.ndim != shape.count(",") + 1 or values.numel() == 0:
        raise ValueError(f"{name} must be of shape {shape} with at least one row, got {tuple(values.shape)}")
    if values.isnan().any():
        raise ValueError(f"{name} has NaN values: nothing can be counted")
