"""Calls of the protocols that cannot be carried out."""

from __future__ import annotations

import pytest
import torch

from vilt_prompt import protocols

SCORES = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
PAIRS = torch.tensor([0, 1])

REFUSED = {
    "frames of a counted float": (
        lambda w: protocols.sample_frames(40.0, 4),
        TypeError,
        "total must be an integer, got 40.0",
    ),
    "frames of NaN": (
        lambda w: protocols.sample_frames(float("nan"), 4),
        TypeError,
        "total must be an integer, got nan",
    ),
    "frames of a string": (lambda w: protocols.sample_frames("40", 4), TypeError, "total must be an integer, got '40'"),
    "frames of an empty video": (lambda w: protocols.sample_frames(0, 4), ValueError, "total=0 is out of range"),
    "no frames of a video": (lambda w: protocols.frame_views(40, 0, 1), ValueError, "frames=0 is out of range"),
    "half a stride": (
        lambda w: protocols.sample_dense_frames(40, 4, 1.5),
        TypeError,
        "stride must be an integer, got 1.5",
    ),
    "one and a half views": (
        lambda w: protocols.dense_frame_views(40, 4, 2, 1.5),
        TypeError,
        "views must be an integer, got 1.5",
    ),
    "crops of a counted float": (
        lambda w: protocols.crop_boxes(320.0, 240, 3),
        TypeError,
        "width must be an integer, got 320.0",
    ),
    "crops of nothing": (
        lambda w: protocols.crop_boxes(320, 0, 3),
        ValueError,
        "height=0 is out of range: it must be at least 1",
    ),
    "views of a list": (
        lambda w: protocols.average_views([[[1.0]]]),
        TypeError,
        "logits must be a float tensor, got list",
    ),
    "views of integers": (
        lambda w: protocols.average_views(torch.ones(1, 2, 3, dtype=torch.long)),
        TypeError,
        "logits must be a float tensor, got torch.int64",
    ),
    "views without views": (
        lambda w: protocols.average_views(SCORES),
        ValueError,
        r"logits must be of shape \(B, V, C\) with at least one row, got \(2, 2\)",
    ),
    "one and a half shots": (
        lambda w: protocols.sample_shots([0, 0, 1, 1], 1.5),
        TypeError,
        "shots must be an integer, got 1.5",
    ),
    "no shot": (lambda w: protocols.sample_shots([0, 1], 0), ValueError, "shots=0 is out of range"),
    "more shots than videos": (
        lambda w: protocols.sample_shots([0, 0, 1], 2),
        ValueError,
        "class 1 has 1 videos, fewer than shots=2: ask for fewer shots",
    ),
    "one class to split": (lambda w: protocols.base_novel_split([4]), ValueError, "needs at least 2 classes, got 1"),
    "a negative accuracy": (lambda w: protocols.harmonic_mean(-1, 1), ValueError, "must not be negative or NaN"),
    "scores in an array": (
        lambda w: protocols.top_k_accuracy(SCORES.numpy(), PAIRS),
        TypeError,
        "scores must be a float tensor, got float32",
    ),
    "labels in a list for scores": (
        lambda w: protocols.top_k_accuracy(SCORES, [0, 1]),
        TypeError,
        r"labels must be a tensor of integers, got \[0, 1\]",
    ),
    "labels between classes": (
        lambda w: protocols.top_k_accuracy(SCORES, torch.tensor([0.5, 1.0])),
        TypeError,
        "labels must be a tensor of integers, got torch.float32",
    ),
    "labels for other scores": (
        lambda w: protocols.top_k_accuracy(SCORES, PAIRS[:1]),
        ValueError,
        r"labels must be of shape \(2,\), got \(1,\)",
    ),
    "top one and a half": (
        lambda w: protocols.top_k_accuracy(SCORES, PAIRS, k=1.5),
        TypeError,
        "k must be an integer, got 1.5",
    ),
    "top 3 of 2": (
        lambda w: protocols.top_k_accuracy(SCORES, PAIRS, k=3),
        ValueError,
        r"k=3 is out of range: it must be in 1\.\.2, the number of classes",
    ),
    "similarity in a list": (
        lambda w: protocols.retrieval_metrics([[1.0]]),
        TypeError,
        "similarity must be a float tensor, got list",
    ),
    "similarity of NaN": (
        lambda w: protocols.retrieval_metrics(SCORES * float("nan")),
        ValueError,
        "similarity has NaN values: nothing can be counted",
    ),
    "pairs in a list": (
        lambda w: protocols.retrieval_metrics(SCORES, [0, 1]),
        TypeError,
        r"relevant, unless it is bool \(C, B\), must be a tensor of integers, got \[0, 1\]",
    ),
    "a video that is not there": (
        lambda w: protocols.retrieval_metrics(SCORES, PAIRS + 1),
        ValueError,
        r"relevant, .*, must be in 0\.\.1, got 1\.\.2",
    ),
    "ranks of NaN": (
        lambda w: protocols.ranks(SCORES * float("nan"), torch.eye(2).bool()),
        ValueError,
        "similarity has NaN values",
    ),
    "ranks of another shape": (
        lambda w: protocols.ranks(SCORES, torch.eye(3).bool()),
        ValueError,
        r"relevant must be bool of shape \(2, 2\), got tensor\(\[\[ True",
    ),
    "ranks of numbers": (
        lambda w: protocols.ranks(SCORES, torch.eye(2)),
        ValueError,
        r"relevant must be bool of shape \(2, 2\), got tensor\(\[\[1\.",
    ),
    "metrics of a list": (
        lambda w: protocols.RetrievalMetrics.of([1, 2]),
        ValueError,
        r"ranks must be of shape \(Q,\), each at least 1, got \[1, 2\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
