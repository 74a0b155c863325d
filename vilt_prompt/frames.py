"""Videos as frames: each frame is encoded as an image, and time is pooled by a mean (Eq. 4).

Shapes: B batch, T frames, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    """Encodes the frames of (B, T, 3, H, W) that are not masked: what `encode` gives (B', ...) comes back (B, T, ...).

    Masked frames come back as 0. They are not computed, except where values cannot be read. Of chunks, nothing but
    their frames is kept for the backward pass, which computes them again, one after the other.
    """
    batch = video.shape[0]
    frames = rearrange(video, "b t c h w -> (b t) c h w")
    mask = None if frame_mask is None else rearrange(frame_mask, "b t -> (b t)")
    readable = mask is not None and is_readable(mask)
    if mask is not None and readable:
        frames = frames[mask]
    elif mask is not None:
        # Dropping frames makes a shape that depends on values, which a compiled graph cannot have. What stands in
        # masked frames must not reach the gradients all the same: NaN times 0 is NaN.
        frames = torch.where(_like(mask, frames), frames, 0)
    if frames_per_chunk is None:
        chunks = [encode(frames)]
    else:
        chunks = [_encode_chunk(encode, chunk) for chunk in frames.split(frames_per_chunk)]
    encoded = []
    for parts in zip(*chunks, strict=True):
        features = torch.cat(parts)
        if mask is not None and readable:
            features = features.new_zeros(mask.shape[0], *features.shape[1:]).index_put((mask,), features)
        elif mask is not None:
            features = torch.where(_like(mask, features), features, 0)
        encoded.append(rearrange(features, "(b t) ... -> b t ...", b=batch))
    return tuple(encoded)


def _encode_chunk(encode: Callable[[Tensor], tuple[Tensor, ...]], chunk: Tensor) -> tuple[Tensor, ...]:
    # The backward pass needs the activations of every chunk: kept, chunks would save no memory in training. In a
    # compiled graph, which cannot hold such checkpoints, the compiler decides what is kept.
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return checkpoint(encode, chunk, use_reentrant=False)
    return encode(chunk)


def mean_over_frames(features: Tensor, frame_mask: Tensor | None) -> Tensor:
    """(B, T, ...) with 0 in masked frames -> (B, ...)."""
    if frame_mask is None:
        return features.sum(dim=1) / features.shape[1]
    return features.sum(dim=1) / _like(frame_mask.sum(1), features[:, 0])


def check_frames(name: str, frames: Any, rank: int, size: tuple[int, int] | None) -> None:
    """Checks images (B, 3, H, W), `rank` 4, or videos (B, T, 3, H, W), `rank` 5, against the size of a model.

    Raises:
        TypeError: If they are no float tensor.
        ValueError: If the shape is another one; `size` None: any height and width.
    """
    expected = "(B, 3, H, W)" if rank == 4 else "(B, T, 3, H, W)"
    if not isinstance(frames, Tensor):
        raise TypeError(f"{name} must be a float tensor {expected}, got {type(frames).__name__}")
    if frames.ndim != rank:
        other = "encode_video" if frames.ndim == 5 else "encode_image" if frames.ndim == 4 else None
        raise ValueError(
            f"{name} must be of shape {expected}, got {tuple(frames.shape)}" + (f": use {other}" if other else "")
        )
    if not frames.is_floating_point():
        raise TypeError(f"{name} must be float, as open_clip's preprocess returns it, got {frames.dtype}")
    if frames.numel() == 0:
        raise ValueError(f"{name} is empty: its shape is {tuple(frames.shape)}; pass at least one frame")
    if frames.shape[-3] != 3:
        raise ValueError(f"{name} must have 3 channels, {expected}, got {tuple(frames.shape)}")
    if size is not None and tuple(frames.shape[-2:]) != tuple(size):
        raise ValueError(f"{name} must be of the model's size {size}, got {tuple(frames.shape)}: use its preprocess")


def check_frame_mask(mask: Any, video: Tensor) -> None:
    """Checks a mask (B, T), False where a frame of the video (B, T, ...) is padding; None: there is none.

    Raises:
        TypeError: If it is no bool tensor.
        ValueError: If it is of another shape or on another device, or masks every frame of a video.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"frame_mask must be a bool tensor (B, T), got {getattr(mask, 'dtype', type(mask).__name__)}")
    batch, frames = video.shape[:2]
    if mask.shape != (batch, frames):
        raise ValueError(f"frame_mask must be of shape (B, T) = ({batch}, {frames}), got {tuple(mask.shape)}")
    if mask.device != video.device:
        device = str(video.device)
        raise ValueError(f"frame_mask is on {mask.device}, the video on {device}: use frame_mask.to({device!r})")
    if is_readable(mask) and not mask.any(dim=1).all():
        row = int(mask.any(dim=1).int().argmin())
        raise ValueError(f"frame_mask masks every frame of video {row}: leave out the video, or keep a frame")


def _like(mask: Tensor, features: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...), with as many dimensions as the features."""
    return mask.reshape(-1, *[1] * (features.ndim - 1))
