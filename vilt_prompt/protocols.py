"""The protocols of video recognition and retrieval: which videos, frames and views count, and how results are counted.

Nothing here decodes a video.

Shapes: B videos, C classes or captions, T frames, V views.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from contextlib import suppress
from operator import index
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from vilt_prompt.checks import check_count, check_floats, check_labels


def sample_frames(total: int, frames: int, generator: Generator | None = None) -> Tensor:
    """Picks one frame from each of T equal segments of a video, some several times if it has fewer.

    Args:
        total: Frames in the video.
        frames: T, how many are wanted.
        generator: Draws the frame of each segment, for training. None: the centres, for testing.

    Returns:
        Frame numbers from 0 to total - 1, (T,).

    Raises:
        TypeError: If an argument is no integer.
        ValueError: If one is below 1.

    Example:
        >>> sample_frames(40, 4)
        tensor([ 5, 15, 25, 35])
    """
    if generator is None:
        return frame_views(total, frames, 1)[0]
    _check_counts(total=total, frames=frames)
    # Single precision would round a draw next to 1 up into the following segment.
    within = torch.rand(frames, generator=generator).double()
    return ((torch.arange(frames) + within) * total / frames).long()


def sample_dense_frames(total: int, frames: int, stride: int, generator: Generator | None = None) -> Tensor:
    """Picks T frames that are `stride` apart; spread evenly from the first to the last if the video is shorter.

    Args:
        total: Frames in the video.
        frames: T, how many are wanted.
        stride: Distance between them.
        generator: Draws where the frames start, for training. None: they are in the middle, for testing.

    Returns:
        Frame numbers from 0 to total - 1, (T,).

    Raises:
        TypeError: If an argument is no integer.
        ValueError: If one is below 1.

    Example:
        >>> sample_dense_frames(40, 4, stride=2)
        tensor([17, 19, 21, 23])
    """
    if generator is None:
        return dense_frame_views(total, frames, stride, 1)[0]
    _check_counts(total=total, frames=frames, stride=stride)
    window = _window(total, frames, stride)
    return torch.randint(total - int(window[-1]), (1,), generator=generator) + window


def frame_views(total: int, frames: int, views: int) -> Tensor:
    """Cuts a video into T equal segments; view v takes the frame at (v + 1/2) / V of each.

    Args:
        total: Frames in the video.
        frames: T, frames of each view.
        views: V, how many times the video is looked at.

    Returns:
        Frame numbers from 0 to total - 1, (V, T).

    Raises:
        TypeError: If an argument is no integer.
        ValueError: If one is below 1.

    Example:
        >>> frame_views(40, 4, 2)
        tensor([[ 2, 12, 22, 32],
                [ 7, 17, 27, 37]])
    """
    _check_counts(total=total, frames=frames, views=views)
    segment, view = torch.arange(frames), torch.arange(views).unsqueeze(1)
    return (2 * (segment * views + view) + 1) * total // (2 * views * frames)  # [V, T]


def dense_frame_views(total: int, frames: int, stride: int, views: int) -> Tensor:
    """V times T frames that are `stride` apart; they start in the middle of V equal parts of what is free.

    Args:
        total: Frames in the video.
        frames: T, frames of each view.
        stride: Distance between them; smaller where the video is too short for it.
        views: V, how many times the video is looked at.

    Returns:
        Frame numbers from 0 to total - 1, (V, T).

    Raises:
        TypeError: If an argument is no integer.
        ValueError: If one is below 1.
    """
    _check_counts(total=total, frames=frames, stride=stride, views=views)
    window = _window(total, frames, stride)
    return frame_views(total - int(window[-1]), 1, views) + window


def crop_boxes(width: int, height: int, views: int) -> list[tuple[int, int, int, int]]:
    """Square crops along the longer side of a frame: V spatial views.

    Args:
        width: Of the frame, in pixels.
        height: Likewise.
        views: V. One is the centre; more go from end to end.

    Returns:
        V boxes (left, top, right, bottom), as PIL's `crop` takes them.

    Raises:
        TypeError: If an argument is no integer.
        ValueError: If one is below 1.

    Example:
        >>> crop_boxes(320, 240, 3)
        [(0, 0, 240, 240), (40, 0, 280, 240), (80, 0, 320, 240)]
    """
    _check_counts(width=width, height=height, views=views)
    side, free = min(width, height), abs(width - height)
    shifts = [free // 2] if views == 1 else [free * view // (views - 1) for view in range(views)]
    lefts_and_tops = [(shift, 0) if width > height else (0, shift) for shift in shifts]
    return [(left, top, left + side, top + side) for left, top in lefts_and_tops]


def average_views(logits: Tensor) -> Tensor:
    """The mean of the class probabilities, not of the logits, over the views of each video.

    Args:
        logits: (B, V, C), already divided by the temperature.

    Returns:
        (B, C), rows that sum to 1.

    Raises:
        TypeError: If the logits are no float tensor.
        ValueError: If they are not of that shape, or one is NaN.
    """
    _check_scores("logits", logits, "(B, V, C)")
    return logits.softmax(dim=-1).mean(dim=1)


def sample_shots(
    labels: Sequence[int] | Tensor,
    shots: int,
    seed: int = 0,
    *,
    groups: Sequence[Hashable] | None = None,
    nested: bool = False,
) -> list[int]:
    """Picks K training videos of every class.

    The draw depends on the seed, the class and the order of its videos alone: no other class, machine or version of a
    library changes it.

    Args:
        labels: The class of each video, (N,).
        shots: K.
        seed: Another seed, another draw.
        groups: What each video was cut from, N names; a group gives a second video only when all of its class have
            given one. None: every video is its own.
        nested: Whether the draw is part of that of every larger K under the same seed.

    Returns:
        K positions for each class, ascending.

    Raises:
        TypeError: If K is no integer.
        ValueError: If K is below 1, a class has fewer than K videos, or there is not one group for each video.

    Example:
        >>> sample_shots([0, 0, 0, 1, 1], 2, nested=True)
        [0, 2, 3, 4]
    """
    classes = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    _check_counts(shots=shots)
    if not classes:
        raise ValueError("labels is empty: there is no video to pick")
    if groups is not None and len(groups) != len(classes):
        raise ValueError(f"groups must name one group for each of {len(classes)} videos, got {len(groups)}")
    positions: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(classes):
        positions[label].append(position)
    chosen: list[int] = []
    for label, own in positions.items():
        if len(own) < shots:
            raise ValueError(f"class {label} has {len(own)} videos, fewer than shots={shots}: ask for fewer shots")
        stream = f"{seed}/{label}" if nested else f"{seed}/{label}/{shots}"
        by_group: dict[Hashable, list[int]] = defaultdict(list)
        for position in own:
            by_group[position if groups is None else groups[position]].append(position)
        # Groups and the videos of each in random order, one of every group before any second.
        shuffled = [_shuffled(group, f"{stream}/{n}") for n, group in enumerate(by_group.values())]
        ranks = [(turn, n) for n in _shuffled(list(range(len(shuffled))), stream) for turn in range(len(shuffled[n]))]
        chosen += [shuffled[n][turn] for turn, n in sorted(ranks, key=lambda rank: rank[0])[:shots]]
    return sorted(chosen)


def base_novel_split(counts: Sequence[int] | Tensor, seed: int | None = None) -> tuple[list[int], list[int]]:
    """Splits C classes into base, which training sees, and novel, which it does not.

    Base is the more frequent half, rounded up, such as 26 of 51; among equals the first classes.

    Args:
        counts: Training videos of each class, (C,).
        seed: Draws the halves at random instead.

    Returns:
        The base classes and the novel ones, each ascending.

    Raises:
        ValueError: If there are fewer than two classes, or a count is negative.

    Example:
        >>> base_novel_split([5, 9, 5, 7, 5])
        ([0, 1, 3], [2, 4])
    """
    numbers = counts.tolist() if isinstance(counts, Tensor) else list(counts)
    if len(numbers) < 2:
        raise ValueError(f"a split needs at least 2 classes, got {len(numbers)}")
    if min(numbers) < 0:
        raise ValueError(f"counts must not be negative, got {min(numbers)} for class {numbers.index(min(numbers))}")
    classes = list(range(len(numbers)))
    order = sorted(classes, key=lambda label: -numbers[label]) if seed is None else _shuffled(classes, f"{seed}/base")
    half = (len(order) + 1) // 2
    return sorted(order[:half]), sorted(order[half:])


def harmonic_mean(base: float, novel: float) -> float:
    """`2 * base * novel / (base + novel)`, and 0 where both are 0.

    Args:
        base: Accuracy on the classes of the training.
        novel: Accuracy on the others, in the same unit.

    Raises:
        ValueError: If one is negative or NaN.
    """
    if not (base >= 0 and novel >= 0):
        raise ValueError(f"base={base} and novel={novel} must not be negative or NaN")
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """The share of videos, 0 to 1, for which fewer than k OTHER classes score at least as high as their own.

    So ties count against the prediction: a model that gives all classes one score gets 0.

    Args:
        scores: (B, C); probabilities, logits or cosines.
        labels: (B,), classes 0..C-1.
        k: 1 for top-1, 5 for top-5.

    Raises:
        TypeError: If the scores are no float tensor, or the labels or k no integers.
        ValueError: If shapes do not match, there is no video, a score is NaN, or a label or k is out of range.
    """
    _check_scores("scores", scores, "(B, C)")
    classes = scores.shape[1]
    check_labels("labels", labels, len(scores), classes)
    _check_counts(k=k)
    if k > classes:
        raise ValueError(f"k={k} is out of range: it must be in 1..{classes}, the number of classes")
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
        TypeError: If `similarity` is no float tensor, or `relevant` neither bool nor integer.
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
        TypeError: If `similarity` is no float tensor.
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
        check_labels("relevant, unless it is bool (C, B),", relevant, captions, videos)
        relevant = relevant.unsqueeze(1) == torch.arange(videos, device=relevant.device)
    return relevant.to(similarity.device)


def _window(total: int, frames: int, stride: int) -> Tensor:
    """Frame numbers from 0 to (T - 1) * stride, or to the last frame of a shorter video, (T,)."""
    span = min((frames - 1) * stride, total - 1)
    return torch.arange(frames) * span // max(frames - 1, 1)


def _shuffled(items: list[Any], stream: str) -> list[Any]:
    """Orders items by a hash: unlike a generator's shuffle, it is the same in every version of every library."""
    keys = {n: hashlib.sha256(f"{stream}/{n}".encode()).digest() for n in range(len(items))}
    return [items[n] for n in sorted(keys, key=keys.__getitem__)]


def _check_counts(**counts: Any) -> None:
    for name, value in counts.items():
        with suppress(TypeError):
            counts[name] = index(value)  # NumPy's integers count too
        check_count(name, counts[name], optional=False)


def _check_scores(name: str, values: Any, shape: str) -> None:
    check_floats(name, values, shape)
    if values.isnan().any():
        raise ValueError(f"{name} has NaN values: nothing can be counted")
