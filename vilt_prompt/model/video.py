"""Videos as frames: each frame is encoded as an image, and time is pooled by a mean (Eq. 4).

Shapes: B batch, T frames, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vilt_prompt.checks import is_readable


def encode_each_frame(
    encode: Callable[[Tensor], tuple[Tensor, ...]],
    video: Tensor,
    frame_mask: Tensor | None,
    frames_per_chunk: int | None = None,
) -> tuple[Tensor, ...]:
    """Encode each frame of a video as an image.

    Args:
        encode: Turns images (B', 3, H, W) into one or more tensors (B', ...).
        video: (B, T, 3, H, W).
        frame_mask: (B, T) bool, False where a frame is padding, or None. Masked frames run only if the mask's values
            cannot be read.
        frames_per_chunk: How many frames run at once; None: all. The backward pass computes chunks again, one after
            the other.

    Returns:
        For each tensor of `encode`, (B, T, ...), 0 in masked frames.
    """
    frames = rearrange(video, "b t c h w -> (b t) c h w")
    mask = None if frame_mask is None else frame_mask.flatten()  # [B*T], in the order of the frames
    dropped = mask is not None and is_readable(mask)
    if mask is not None:
        # Without masked frames, the number of frames depends on values of the mask, which a compiled graph cannot
        # express. There masked frames are replaced by zeros and run: a NaN in one must not reach the gradients.
        frames = frames[mask] if dropped else torch.where(_like(mask, frames), frames, 0)
    if frames_per_chunk is None:
        chunks = [encode(frames)]
    else:
        # Without checkpoints, the activations of all chunks would be kept for the backward pass, and chunks would save
        # no memory. A compiled graph cannot contain these checkpoints. There the compiler decides which tensors are
        # kept.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            encode = partial(checkpoint, encode, use_reentrant=False)
        chunks = [encode(chunk) for chunk in frames.split(int(frames_per_chunk))]

    def in_place(features: Tensor) -> Tensor:
        if mask is not None and dropped:
            features = features.new_zeros(mask.shape[0], *features.shape[1:]).index_put((mask,), features)
        elif mask is not None:
            features = torch.where(_like(mask, features), features, 0)
        return rearrange(features, "(b t) ... -> b t ...", b=video.shape[0])

    return tuple(in_place(torch.cat(parts)) for parts in zip(*chunks, strict=True))


def mean_over_frames(features: Tensor, frame_mask: Tensor | None) -> Tensor:
    """The mean over the frames of (B, T, ...), which is 0 in masked frames: (B, ...)."""
    count = features.shape[1] if frame_mask is None else _like(frame_mask.sum(1), features[:, 0])
    return features.sum(dim=1) / count


def passed_frames(video: Tensor | None, image: Tensor | None) -> Tensor | None:
    """The argument of `forward` that has two names, under the name that the caller used, or None.

    Raises:
        ValueError: If both names are used.
    """
    if video is not None and image is not None:
        raise ValueError("video and image are two names of one argument: pass one of them")
    return image if video is None else video


def check_video_or_images(frames: object, frame_mask: object) -> None:
    """Check the arguments of `forward`: a video (B, T, 3, H, W), images (B, 3, H, W), or None, and the mask.

    Raises:
        ValueError: If the shape is another one, or there is a mask without a video.
        TypeError: If the frames are not a tensor.
    """
    if frames is None:
        if frame_mask is not None:
            raise ValueError("frame_mask was passed without a video: pass both, or neither")
        return
    expected = "expected a video (B, T, 3, H, W) or images (B, 3, H, W)"
    if not isinstance(frames, Tensor):
        raise TypeError(f"{expected}, got {type(frames).__name__}")
    if frames.ndim not in (4, 5):
        raise ValueError(f"{expected}, got {tuple(frames.shape)}")
    if frames.ndim == 4 and frame_mask is not None:
        raise ValueError(f"frame_mask belongs to a video (B, T, 3, H, W), got images {tuple(frames.shape)}")


def check_frames(name: str, frames: object, rank: int, size: tuple[int, int] | None) -> None:
    """Check images or videos.

    Args:
        name: The name of the argument, for messages.
        frames: Images (B, 3, H, W), or videos (B, T, 3, H, W).
        rank: 4 for images, 5 for videos.
        size: Height and width that the model takes; None: any.

    Raises:
        TypeError: If `frames` is not a float tensor.
        ValueError: If it has another shape, or is empty.
    """
    expected = "(B, 3, H, W)" if rank == 4 else "(B, T, 3, H, W)"
    if not isinstance(frames, Tensor):
        raise TypeError(f"{name} must be a float tensor {expected}, got {type(frames).__name__}")
    shape = tuple(frames.shape)
    if frames.ndim != rank:
        advice = {4: ": use encode_image", 5: ": use encode_video"}.get(frames.ndim, "")
        raise ValueError(f"{name} must be of shape {expected}, got {shape}{advice}")
    if not frames.is_floating_point():
        raise TypeError(f"{name} must be float, as open_clip's preprocess returns it, got {frames.dtype}")
    if frames.numel() == 0:
        raise ValueError(f"{name} is empty: its shape is {shape}; pass at least one frame")
    if shape[-3] != 3:
        raise ValueError(f"{name} must have 3 channels, {expected}, got {shape}")
    if size is not None and shape[-2:] != tuple(size):
        raise ValueError(f"{name} must be of the model's size {size}, got {shape}: use its preprocess")


def check_frame_mask(mask: object, video: Tensor) -> None:
    """Check the mask (B, T) of a video (B, T, ...). None passes.

    Raises:
        TypeError: If the mask is not a bool tensor.
        ValueError: If it has another shape or device than the video, or masks all frames of one.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"frame_mask must be a bool tensor (B, T), got {getattr(mask, 'dtype', type(mask).__name__)}")
    if mask.shape != video.shape[:2]:
        raise ValueError(f"frame_mask must be of shape (B, T) = {tuple(video.shape[:2])}, got {tuple(mask.shape)}")
    if mask.device != video.device:
        device = str(video.device)
        raise ValueError(f"frame_mask is on {mask.device}, the video on {device}: use frame_mask.to({device!r})")
    kept = mask.any(dim=1)
    if is_readable(mask) and not kept.all():
        row = int(kept.int().argmin())
        raise ValueError(f"frame_mask masks every frame of video {row}: leave out the video, or keep a frame")


def _like(mask: Tensor, features: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...), with as many dimensions as the features."""
    return mask.reshape(-1, *[1] * (features.ndim - 1))
