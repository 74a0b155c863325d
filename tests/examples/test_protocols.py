"""The protocols against slow and obvious references, and by what must hold of them."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from examples.paper.protocols.metrics import RetrievalMetrics, average_views, ranks, retrieval_metrics, top_k_accuracy
from examples.paper.protocols.shots import sample_shots
from examples.paper.protocols.splits import base_novel_split, harmonic_mean
from examples.video.sampling import crop_boxes, dense_frame_views, frame_views, sample_dense_frames, sample_frames


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- frames -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [1, 2, 3, 7, 16, 33, 97, 300, 99_991])
@pytest.mark.parametrize("frames", [1, 3, 8, 16, 32])
@pytest.mark.parametrize("views", [1, 3, 4])
def test_frame_views_are_exact_fractions_of_segments(total: int, frames: int, views: int) -> None:
    for view, picked in enumerate(frame_views(total, frames, views).tolist()):
        for segment, number in enumerate(picked):
            moment = (segment + (view + Fraction(1, 2)) / views) * total / frames
            assert number == math.floor(moment)
    assert torch.equal(sample_frames(total, frames), frame_views(total, frames, 1)[0])


@pytest.mark.parametrize(("total", "frames"), [(97, 4), (33, 16), (16, 16), (3, 5), (1, 4)])
def test_random_frames_cover_their_segments_and_nothing_else(total: int, frames: int) -> None:
    source = generator()
    seen = torch.stack([sample_frames(total, frames, source) for _ in range(400)])
    for segment in range(frames):
        begin, end = Fraction(segment * total, frames), Fraction((segment + 1) * total, frames)
        touched = {n for n in range(total) if n + 1 > begin and n < end}
        assert set(seen[:, segment].tolist()) == touched


def test_integers_may_be_numpys() -> None:
    """As readers of videos give them."""
    total, frames, views = np.int64(300), np.int32(8), np.int64(3)
    assert torch.equal(frame_views(total, frames, views), frame_views(300, 8, 3))
    assert torch.equal(dense_frame_views(total, frames, 4, views), dense_frame_views(300, 8, 4, 3))
    assert len(sample_frames(total, frames, generator())) == 8
    assert len(sample_dense_frames(total, frames, np.int64(4), generator())) == 8
    assert crop_boxes(np.int64(320), np.int64(240), 3) == crop_boxes(320, 240, 3)


def test_random_frames_repeat_with_the_seed() -> None:
    draws = [sample_frames(97, 8, generator(seed)).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("frames", [1, 4, 9])
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("total", [1, 3, 8, 17, 40])
def test_dense_windows(total: int, frames: int, stride: int) -> None:
    needed = (frames - 1) * stride + 1
    source = generator()
    draws = {tuple(sample_dense_frames(total, frames, stride, source).tolist()) for _ in range(300)}
    if needed <= total:
        assert draws == {tuple(range(start, start + needed, stride)) for start in range(total - needed + 1)}
        middle = (total - needed + 1) // 2
        assert sample_dense_frames(total, frames, stride).tolist() == [middle + stride * n for n in range(frames)]
    else:
        (only,) = draws
        assert only == tuple(n * (total - 1) // (frames - 1) for n in range(frames))
        assert (only[0], only[-1]) == (0, total - 1)
        assert sample_dense_frames(total, frames, stride).tolist() == list(only)
    views = dense_frame_views(total, frames, stride, 3)
    assert views.shape == (3, frames)
    assert all(tuple(view) in draws for view in views.tolist())
    if total - needed >= 2:
        assert len({tuple(view) for view in views.tolist()}) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_frames(0, 4), "expected total of at least 1, got 0"),
        (lambda: sample_frames(0, 4, generator()), "expected total of at least 1, got 0"),
        (lambda: sample_frames(4, 0), "expected frames of at least 1, got 0"),
        (lambda: sample_dense_frames(4, 2, 0), "expected stride of at least 1, got 0"),
        (lambda: sample_dense_frames(4, 2, 0, generator()), "expected stride of at least 1, got 0"),
        (lambda: frame_views(4, 2, 0), "expected views of at least 1, got 0"),
        (lambda: crop_boxes(0, 4, 1), "expected width of at least 1, got 0"),
    ],
)
def test_impossible_frames_are_refused(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (100, 100), (7, 4)])
@pytest.mark.parametrize("views", [1, 2, 3, 5])
def test_crops_are_squares_from_end_to_end(size: tuple[int, int], views: int) -> None:
    width, height = size
    boxes = crop_boxes(width, height, views)
    assert len(boxes) == views
    for left, top, right, bottom in boxes:
        assert right - left == bottom - top == min(size)
        assert 0 <= left <= right <= width
        assert 0 <= top <= bottom <= height
    if views > 1:
        assert boxes[0][:2] == (0, 0)
        assert boxes[-1][2:] == (width, height)
    if views % 2:
        left, top, right, bottom = boxes[views // 2]
        assert abs(left + right - width) <= 1
        assert abs(top + bottom - height) <= 1


def test_views_are_averaged_as_probabilities() -> None:
    logits = torch.randn(3, 4, 5, generator=generator()) * 10
    expected = torch.zeros(3, 5)
    for video in range(3):
        for view in range(4):
            exponentials = [math.exp(logit) for logit in logits[video, view].tolist()]
            expected[video] += torch.tensor([e / sum(exponentials) / 4 for e in exponentials])
    averaged = average_views(logits)
    torch.testing.assert_close(averaged, expected)
    torch.testing.assert_close(averaged, average_views(logits[:, [2, 0, 3, 1]]))
    assert not torch.allclose(averaged, logits.mean(1).softmax(-1), atol=1e-2)
    with pytest.raises(ValueError, match=r"logits must be of shape \(B, V, C\).*got \(3, 5\)"):
        average_views(logits[:, 0])
    with pytest.raises(ValueError, match="logits has NaN values"):
        average_views(logits * math.nan)


# --- which videos -------------------------------------------------------------------------------------------------

SOURCE = random.Random(5)
LABELS = [SOURCE.randrange(4) for _ in range(120)]
GROUPS = [f"g{int(SOURCE.random() ** 2 * 6)}" for _ in range(120)]  # some larger than others


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shots", [1, 2, 5, 16])
def test_every_class_gets_its_shots(shots: int, nested: bool, groups: list[str] | None) -> None:
    chosen = sample_shots(LABELS, shots, 3, groups=groups, nested=nested)
    assert chosen == sorted(set(chosen))
    assert Counter(LABELS[n] for n in chosen) == dict.fromkeys(range(4), shots)
    assert chosen == sample_shots(torch.tensor(LABELS), shots, 3, groups=groups, nested=nested)
    assert chosen != sample_shots(LABELS, shots, 4, groups=groups, nested=nested)


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_nested_shots_grow(groups: list[str] | None) -> None:
    draws = [set(sample_shots(LABELS, k, groups=groups, nested=True)) for k in range(1, 17)]
    assert all(small < large for small, large in pairwise(draws))
    own = [set(sample_shots(LABELS, k, groups=groups)) for k in (2, 4, 8)]
    assert not own[0] <= own[1] <= own[2]


@pytest.mark.parametrize("nested", [False, True])
def test_groups_are_used_up_evenly(nested: bool) -> None:
    for shots in (2, 4, 8, 16):
        chosen = sample_shots(LABELS, shots, groups=GROUPS, nested=nested)
        for label in range(4):
            available = Counter(group for group, own in zip(GROUPS, LABELS, strict=True) if own == label)
            used = Counter(GROUPS[n] for n in chosen if LABELS[n] == label)
            # No group gives a second video while another that has one left gave fewer.
            for one in available:
                for other in available:
                    assert used[one] <= used[other] + 1 or used[other] == available[other]


def test_shots_of_a_class_do_not_depend_on_other_classes() -> None:
    without = [label for label in LABELS if label != 2]
    kept = [n for n, label in enumerate(LABELS) if label != 2]
    chosen = [kept[n] for n in sample_shots(without, 4)]
    assert chosen == [n for n in sample_shots(LABELS, 4) if LABELS[n] != 2]


def test_every_video_is_about_as_likely() -> None:
    counts = Counter(n for seed in range(600) for n in sample_shots([0] * 10, 3, seed))
    assert all(130 < counts[n] < 230 for n in range(10))  # 180 expected, standard deviation 11
    grouped = Counter(
        n for seed in range(600) for n in sample_shots([0] * 6, 1, seed, groups=["a", "a", "a", "b", "b", "c"])
    )
    assert all(
        150 < count < 250 for count in (grouped[0] + grouped[1] + grouped[2], grouped[3] + grouped[4], grouped[5])
    )


def test_the_draw_is_the_same_forever() -> None:
    assert sample_shots([0] * 20 + [1] * 20, 3, seed=1) == [7, 9, 12, 20, 30, 37]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], 0), "expected shots of at least 1, got 0"),
        (([], 2), "labels is empty"),
        (([0, 0, 1], 2), "class 1 has 1 videos, fewer than shots=2: ask for fewer shots"),
    ],
)
def test_impossible_shots_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        sample_shots(*arguments)
    with pytest.raises(ValueError, match="one group for each of 2 videos, got 1"):
        sample_shots([0, 1], 1, groups=["a"])


@pytest.mark.parametrize("classes", [2, 3, 51, 101, 174, 400])
def test_base_is_the_frequent_half(classes: int) -> None:
    source = random.Random(classes)
    counts = [source.randrange(5, 15) for _ in range(classes)]
    base, novel = base_novel_split(counts)
    assert sorted(base + novel) == list(range(classes))
    assert (len(base), len(novel)) == (-(-classes // 2), classes // 2)
    for one in base:
        for other in novel:
            assert counts[one] > counts[other] or (counts[one] == counts[other] and one < other)
    assert (base, novel) == base_novel_split(torch.tensor(counts))


def test_seeded_split_ignores_the_counts() -> None:
    draws = [base_novel_split(range(51), seed) for seed in range(3)]
    assert draws[0] == base_novel_split([1] * 51, 0)
    assert len({tuple(base) for base, _ in draws}) == 3
    assert all((len(base), len(novel)) == (26, 25) and sorted(base + novel) == list(range(51)) for base, novel in draws)


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        base_novel_split([4])
    with pytest.raises(ValueError, match="must not be negative, got -1 for class 1"):
        base_novel_split([4, -1])


# --- how it is counted --------------------------------------------------------------------------------------------


def test_harmonic_mean() -> None:
    assert harmonic_mean(1, 1) == 1
    assert harmonic_mean(0.3, 0.6) == pytest.approx(1 / ((1 / 0.3 + 1 / 0.6) / 2))
    assert harmonic_mean(0, 0.5) == harmonic_mean(0, 0) == 0
    for wrong in (-0.1, math.nan):
        with pytest.raises(ValueError, match="must not be negative or NaN"):
            harmonic_mean(0.5, wrong)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_against_counting(k: int) -> None:
    scores = torch.randint(0, 6, (50, 7), generator=generator()).float()  # many ties
    labels = torch.randint(0, 7, (50,), generator=generator(1))
    right = 0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        right += sum(score >= row[label] for other, score in enumerate(row) if other != label) < k
    assert top_k_accuracy(scores, labels, k) == right / 50


def test_top_k_without_ties_is_topk() -> None:
    scores, labels = torch.randn(40, 9, generator=generator()), torch.randint(0, 9, (40,), generator=generator(1))
    for k in (1, 5, 9):
        hits = (scores.topk(k).indices == labels.unsqueeze(1)).any(1)
        assert top_k_accuracy(scores, labels, k) == hits.double().mean().item()
    assert top_k_accuracy(torch.zeros(40, 9), labels, 5) == 0
    assert top_k_accuracy(torch.zeros(40, 9), labels, 9) == 1


@pytest.mark.parametrize(
    ("scores", "labels", "k", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 3]), 1, "labels must be in 0..2, got 0..3"),
        (torch.zeros(2, 3), torch.tensor([0]), 1, r"labels must be of shape \(2,\), got \(1,\)"),
        (torch.zeros(0, 3), torch.zeros(0), 1, "scores must be of shape"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), 5, r"expected k in 1..3 \(the number of classes\), got 5"),
        (torch.full((2, 3), math.nan), torch.tensor([0, 1]), 1, "scores has NaN values"),
    ],
)
def test_impossible_accuracies_are_refused(scores, labels, k, message) -> None:
    with pytest.raises(ValueError, match=message):
        top_k_accuracy(scores, labels, k)


def slow_ranks(similarity: list[list[float]], relevant: list[list[bool]]) -> list[int]:
    """Sorts the items of each query, irrelevant ones first among equals, and looks for the first relevant one."""
    ranks = []
    for scores, marks in zip(similarity, relevant, strict=True):
        order = sorted(range(len(scores)), key=lambda n: (-scores[n], marks[n]))
        first = next(place for place, n in enumerate(order) if marks[n])
        ranks.append(first + 1)
    return ranks


def slow_metrics(ranks: list[int]) -> RetrievalMetrics:
    ordered = sorted(ranks)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    recalls = [sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)]
    return RetrievalMetrics(*recalls, median, sum(ranks) / len(ranks))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("captions_each", [None, [1, 3, 2, 5, 1, 4, 2, 2, 3, 1, 6, 2, 3]])
def test_retrieval_against_sorting(captions_each: list[int] | None, ties: bool) -> None:
    videos = 13
    owner = [video for video, count in enumerate(captions_each or [1] * videos) for _ in range(count)]
    similarity = torch.randn(len(owner), videos, generator=generator())
    if ties:
        similarity = similarity.round()
    relevant = torch.tensor([[video == own for video in range(videos)] for own in owner])
    given = None if captions_each is None else torch.tensor(owner)
    result = retrieval_metrics(similarity, given)
    assert result.text_to_video == pytest.approx(slow_metrics(slow_ranks(similarity.tolist(), relevant.tolist())))
    assert result.video_to_text == pytest.approx(slow_metrics(slow_ranks(similarity.T.tolist(), relevant.T.tolist())))
    assert result == retrieval_metrics(similarity, relevant)


def test_retrieval_with_several_videos_of_a_caption() -> None:
    relevant = torch.rand(20, 15, generator=generator()) < 0.2
    relevant[torch.arange(20), torch.arange(20) % 15] = True
    similarity = torch.randn(20, 15, generator=generator(1)).round(decimals=1)
    result = retrieval_metrics(similarity, relevant)
    assert result.text_to_video == pytest.approx(slow_metrics(slow_ranks(similarity.tolist(), relevant.tolist())))
    assert result.video_to_text == pytest.approx(slow_metrics(slow_ranks(similarity.T.tolist(), relevant.T.tolist())))


def test_equal_scores_are_no_hits() -> None:
    nothing = retrieval_metrics(torch.ones(4, 4))
    assert nothing.text_to_video == nothing.video_to_text == (0, 1, 1, 4, 4)
    nothing = retrieval_metrics(torch.ones(20, 20))
    assert nothing.text_to_video == (0, 0, 0, 20, 20)
    perfect = retrieval_metrics(torch.eye(20))
    assert perfect.text_to_video == perfect.video_to_text == (1, 1, 1, 1, 1)


def test_retrieval_does_not_depend_on_the_order_of_videos() -> None:
    similarity, order = torch.randn(12, 12, generator=generator()), torch.randperm(12, generator=generator(1))
    result = retrieval_metrics(similarity)
    assert result == retrieval_metrics(similarity[order][:, order])
    turned = retrieval_metrics(similarity.T)
    assert result == (turned.video_to_text, turned.text_to_video)


@pytest.mark.parametrize(
    ("similarity", "relevant", "error", "message"),
    [
        (torch.zeros(3), None, ValueError, r"similarity must be of shape \(C, B\) with at least one row, got \(3,\)"),
        (torch.zeros(3, 2), None, ValueError, "3 captions and 2 videos do not pair off: pass `relevant`"),
        (torch.full((2, 2), math.nan), None, ValueError, "similarity has NaN values"),
        (torch.zeros(3, 2), torch.tensor([0, 1]), ValueError, r"relevant, .* must be of shape \(3,\), got \(2,\)"),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), ValueError, "relevant, .* must be in 0..1, got 0..2"),
        (
            torch.zeros(3, 2),
            torch.tensor([0, 0, 0]),
            ValueError,
            "video 1 has nothing that belongs to it: leave it out",
        ),
        (torch.zeros(2, 2), torch.tensor([[True, True], [False, False]]), ValueError, "caption 1 has nothing"),
        (
            torch.zeros(2, 2),
            torch.ones(2, 3).bool(),
            ValueError,
            r"relevant must be bool of shape \(2, 2\), got tensor",
        ),
        (
            torch.zeros(2, 2),
            torch.zeros(2),
            TypeError,
            "relevant, unless it is bool .* must be a tensor of integers, got torch.float32",
        ),
    ],
)
def test_impossible_retrieval_is_refused(similarity, relevant, error, message) -> None:
    with pytest.raises(error, match=message):
        retrieval_metrics(similarity, relevant)


def test_metrics_of_no_ranks_are_refused() -> None:
    for wrong in (torch.tensor([], dtype=torch.long), torch.tensor([0, 1])):
        with pytest.raises(ValueError, match="each at least 1"):
            RetrievalMetrics.of(wrong)


# --- refusals ------------------------------------------------------------------------------------------------------

SCORES = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
PAIRS = torch.tensor([0, 1])

BAD_CALLS = {
    "frames of a counted float": (
        lambda: sample_frames(40.0, 4),
        TypeError,
        "total must be an integer, got 40.0",
    ),
    "frames of NaN": (
        lambda: sample_frames(float("nan"), 4),
        TypeError,
        "total must be an integer, got nan",
    ),
    "frames of a string": (lambda: sample_frames("40", 4), TypeError, "total must be an integer, got '40'"),
    "frames of an empty video": (lambda: sample_frames(0, 4), ValueError, "expected total of at least 1, got 0"),
    "no frames of a video": (lambda: frame_views(40, 0, 1), ValueError, "expected frames of at least 1, got 0"),
    "half a stride": (
        lambda: sample_dense_frames(40, 4, 1.5),
        TypeError,
        "stride must be an integer, got 1.5",
    ),
    "one and a half views": (
        lambda: dense_frame_views(40, 4, 2, 1.5),
        TypeError,
        "views must be an integer, got 1.5",
    ),
    "crops of a counted float": (
        lambda: crop_boxes(320.0, 240, 3),
        TypeError,
        "width must be an integer, got 320.0",
    ),
    "crops of nothing": (
        lambda: crop_boxes(320, 0, 3),
        ValueError,
        "expected height of at least 1, got 0",
    ),
    "views of a list": (
        lambda: average_views([[[1.0]]]),
        TypeError,
        "logits must be a float tensor, got list",
    ),
    "views of integers": (
        lambda: average_views(torch.ones(1, 2, 3, dtype=torch.long)),
        TypeError,
        "logits must be a float tensor, got torch.int64",
    ),
    "views without views": (
        lambda: average_views(SCORES),
        ValueError,
        r"logits must be of shape \(B, V, C\) with at least one row, got \(2, 2\)",
    ),
    "one and a half shots": (
        lambda: sample_shots([0, 0, 1, 1], 1.5),
        TypeError,
        "shots must be an integer, got 1.5",
    ),
    "no shot": (lambda: sample_shots([0, 1], 0), ValueError, "expected shots of at least 1, got 0"),
    "more shots than videos": (
        lambda: sample_shots([0, 0, 1], 2),
        ValueError,
        "class 1 has 1 videos, fewer than shots=2: ask for fewer shots",
    ),
    "one class to split": (lambda: base_novel_split([4]), ValueError, "needs at least 2 classes, got 1"),
    "a negative accuracy": (lambda: harmonic_mean(-1, 1), ValueError, "must not be negative or NaN"),
    "scores in an array": (
        lambda: top_k_accuracy(SCORES.numpy(), PAIRS),
        TypeError,
        "scores must be a float tensor, got float32",
    ),
    "labels in a list for scores": (
        lambda: top_k_accuracy(SCORES, [0, 1]),
        TypeError,
        r"labels must be a tensor of integers, got \[0, 1\]",
    ),
    "labels between classes": (
        lambda: top_k_accuracy(SCORES, torch.tensor([0.5, 1.0])),
        TypeError,
        "labels must be a tensor of integers, got torch.float32",
    ),
    "labels for other scores": (
        lambda: top_k_accuracy(SCORES, PAIRS[:1]),
        ValueError,
        r"labels must be of shape \(2,\), got \(1,\)",
    ),
    "top one and a half": (
        lambda: top_k_accuracy(SCORES, PAIRS, k=1.5),
        TypeError,
        "k must be an integer, got 1.5",
    ),
    "top 3 of 2": (
        lambda: top_k_accuracy(SCORES, PAIRS, k=3),
        ValueError,
        r"expected k in 1\.\.2 \(the number of classes\), got 3",
    ),
    "similarity in a list": (
        lambda: retrieval_metrics([[1.0]]),
        TypeError,
        "similarity must be a float tensor, got list",
    ),
    "similarity of NaN": (
        lambda: retrieval_metrics(SCORES * float("nan")),
        ValueError,
        "similarity has NaN values: nothing can be counted",
    ),
    "pairs in a list": (
        lambda: retrieval_metrics(SCORES, [0, 1]),
        TypeError,
        r"relevant, unless it is bool \(C, B\), must be a tensor of integers, got \[0, 1\]",
    ),
    "a video that is not there": (
        lambda: retrieval_metrics(SCORES, PAIRS + 1),
        ValueError,
        r"relevant, .*, must be in 0\.\.1, got 1\.\.2",
    ),
    "ranks of NaN": (
        lambda: ranks(SCORES * float("nan"), torch.eye(2).bool()),
        ValueError,
        "similarity has NaN values",
    ),
    "ranks of another shape": (
        lambda: ranks(SCORES, torch.eye(3).bool()),
        ValueError,
        r"relevant must be bool of shape \(2, 2\), got tensor\(\[\[ True",
    ),
    "ranks of numbers": (
        lambda: ranks(SCORES, torch.eye(2)),
        ValueError,
        r"relevant must be bool of shape \(2, 2\), got tensor\(\[\[1\.",
    ),
    "metrics of a list": (
        lambda: RetrievalMetrics.of([1, 2]),
        ValueError,
        r"ranks must be of shape \(Q,\), each at least 1, got \[1, 2\]",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_call(name: str) -> None:
    call, error, message = BAD_CALLS[name]
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error
