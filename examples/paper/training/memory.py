"""How much memory a training step needs, and which options make it fit.

Shapes: B videos, T frames.
"""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

MARGIN = 0.75  # of the free memory: the rest is for temporary buffers and for what lies between blocks
GB = 1e9


def saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Counts what autograd keeps of a forward pass for the backward pass: the bytes of distinct storages.

    Args:
        forward: Returns a scalar with its graph. Tensors that require gradients themselves, such as parameters, and
            frozen weights, which are there anyway, count only where they were cast to another precision.
    """
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no id is used again

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            storages[id(storage)] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in storages.values())


def needs(loss_of: Callable[[Tensor], Tensor], videos: Tensor) -> tuple[int, int]:
    """Measures with one and two frames what a forward pass keeps.

    Args:
        loss_of: Gets videos (1, T, 3, H, W), and returns a scalar with its graph.
        videos: Any batch with at least one video, (B, T, 3, H, W).

    Returns:
        Bytes for the texts, and bytes for each frame.
    """
    frame = videos[:1, :1]
    one, two = saved_bytes(lambda: loss_of(frame)), saved_bytes(lambda: loss_of(torch.cat([frame, frame], dim=1)))
    return max(0, 2 * one - two), max(1, two - one)


def free_bytes(device: torch.device) -> int:
    """Returns the free memory of a GPU, after garbage is collected."""
    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def advice(videos: int, frames: int, texts: int, per_frame: int, free: int) -> str:
    """Says which options make a step fit.

    Args:
        videos: Those that one pass had.
        frames: T.
        texts: Bytes that the texts keep.
        per_frame: Bytes that each frame keeps.
        free: Bytes that are free before the step.
    """
    room = MARGIN * free - texts
    asked = f"out of memory: {videos} videos of {frames} frames in one pass keep about "
    asked += f"{(texts + per_frame * frames * videos) / GB:.1f} GB, and {free / GB:.1f} GB are free"
    micro_batch, chunk = int(room // (per_frame * frames)), int(room // per_frame)
    if micro_batch >= 1:
        fits = min(micro_batch, max(1, videos - 1))
        return f"{asked}: add --micro-batch {fits}, which is estimated to fit, or lower --frames-per-chunk"
    if chunk >= 1:
        return f"{asked}: add --micro-batch 1 --frames-per-chunk {chunk}, which are estimated to fit"
    return f"{asked}: not even --micro-batch 1 --frames-per-chunk 1 is estimated to fit; choose a smaller --model"
