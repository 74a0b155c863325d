"""Which frames and which part of each frame a model sees: frame sampling, and views for testing.

Nothing here decodes a video.

Shapes: T frames, V views.
"""

import torch
from torch import Generator, Tensor

from examples.video.counts import check_counts


def sample_frames(total: int, frames: int, generator: Generator | None = None) -> Tensor:
    """Picks one frame from each of T equal segments of a video, some several times if it has fewer.

    Args:
        total: Frames in the video.
        frames: T, how many are wanted.
        generator: Draws the frame of each segment, for training. None: the centres, for testing.

    Returns:
        Frame numbers from 0 to total - 1, (T,).

    Raises:
        TypeError: If an argument is not an integer.
        ValueError: If one is below 1.

    Example:
        >>> sample_frames(40, 4)
        tensor([ 5, 15, 25, 35])
    """
    if generator is None:
        return frame_views(total, frames, 1)[0]
    check_counts(total=total, frames=frames)
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
        TypeError: If an argument is not an integer.
        ValueError: If one is below 1.

    Example:
        >>> sample_dense_frames(40, 4, stride=2)
        tensor([17, 19, 21, 23])
    """
    if generator is None:
        return dense_frame_views(total, frames, stride, 1)[0]
    check_counts(total=total, frames=frames, stride=stride)
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
        TypeError: If an argument is not an integer.
        ValueError: If one is below 1.

    Example:
        >>> frame_views(40, 4, 2)
        tensor([[ 2, 12, 22, 32],
                [ 7, 17, 27, 37]])
    """
    check_counts(total=total, frames=frames, views=views)
    segment, view = torch.arange(frames), torch.arange(views).unsqueeze(1)
    return (2 * (segment * views + view) + 1) * total // (2 * views * frames)  # [V, T]


def dense_frame_views(total: int, frames: int, stride: int, views: int) -> Tensor:
    """V times T frames that are `stride` apart; they start in the middle of V equal parts of the free range.

    Args:
        total: Frames in the video.
        frames: T, frames of each view.
        stride: Distance between them; smaller where the video is too short for it.
        views: V, how many times the video is looked at.

    Returns:
        Frame numbers from 0 to total - 1, (V, T).

    Raises:
        TypeError: If an argument is not an integer.
        ValueError: If one is below 1.
    """
    check_counts(total=total, frames=frames, stride=stride, views=views)
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
        TypeError: If an argument is not an integer.
        ValueError: If one is below 1.

    Example:
        >>> crop_boxes(320, 240, 3)
        [(0, 0, 240, 240), (40, 0, 280, 240), (80, 0, 320, 240)]
    """
    check_counts(width=width, height=height, views=views)
    side, free = min(width, height), abs(width - height)
    shifts = [free // 2] if views == 1 else [free * view // (views - 1) for view in range(views)]
    lefts_and_tops = [(shift, 0) if width > height else (0, shift) for shift in shifts]
    return [(left, top, left + side, top + side) for left, top in lefts_and_tops]


def _window(total: int, frames: int, stride: int) -> Tensor:
    """Frame numbers from 0 to (T - 1) * stride, or to the last frame of a shorter video, (T,)."""
    span = min((frames - 1) * stride, total - 1)
    return torch.arange(frames) * span // max(frames - 1, 1)
