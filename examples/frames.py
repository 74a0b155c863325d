"""Which frames of a video the model sees: one from each of T equal segments."""

import torch
from torch import Generator, Tensor


def sample_frames(total: int, frames: int, generator: Generator | None = None) -> Tensor:
    """Picks frame numbers, in order of time.

    The video is cut into `frames` segments of equal length. Training draws one frame of each at random, so that every
    epoch sees others; testing takes the centres, so that a result can be repeated. A video with fewer frames than
    segments gives some of its frames several times.

    Args:
        total: Frames in the video.
        frames: T, how many are wanted.
        generator: Source of the random draws; without one, the centres.

    Returns:
        Frame numbers from 0 to total - 1, (T,).

    Raises:
        ValueError: `total` or `frames` is below 1.

    Example:
        >>> sample_frames(40, 4)
        tensor([ 5, 15, 25, 35])
        >>> sample_frames(2, 4)
        tensor([0, 0, 1, 1])
    """
    if total < 1 or frames < 1:
        raise ValueError(f"A video of {total} frames cannot give {frames}: both must be at least 1.")
    within = torch.full((frames,), 0.5) if generator is None else torch.rand(frames, generator=generator)
    # A draw next to 1 may round up to the following segment, which the last one has not.
    return ((torch.arange(frames) + within) * total / frames).long().clamp(max=total - 1)
