"""How much memory a training step needs, and which options make it fit.

Shapes: B videos, T frames.
"""

import gc
from collections.abc import Callable

import torch
from torch import Tensor, nn

MARGIN = 0.75  # of the free memory: the rest is for temporary buffers and for what lies between blocks
GB = 1e9


def saved_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Counts what autograd keeps of a forward pass for the backward pass: the bytes of distinct storages.

    Args:
        forward: Returns a scalar with its graph.
        model: Its parameters and buffers are there anyway, and do not count, unless they are cast to another precision.
    """
    known = {id(tensor.untyped_storage()) for tensor in (*model.parameters(), *model.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no id is used again

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in known:
            storages[id(storage)] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    del loss
    return sum(storage.nbytes() for storage in storages.values())


def needs(loss_of: Callable[[Tensor], Tensor], videos: Tensor, model: nn.Module) -> tuple[int, int]:
    """Measures with one and two frames what a forward pass keeps.

    Args:
        loss_of: Gets videos (1, T, 3, H, W), and returns a scalar with its graph.
        videos: Any batch with at least one video, (B, T, 3, H, W).
        model: The model that `loss_of` calls.

    Returns:
        Bytes for the texts, and bytes for each frame.
    """
    frame = videos[:1, :1]
    one = saved_bytes(lambda: loss_of(frame), model)
    two = saved_bytes(lambda: loss_of(torch.cat([frame, frame], dim=1)), model)
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
        return f"{asked}: add --micro-batch {fits}, which is estimated to fit, or give a lower --frames-per-chunk"
    if chunk >= 1:
        return f"{asked}: add --micro-batch 1 --frames-per-chunk {chunk}, which are estimated to fit"
    return f"{asked}: not even --micro-batch 1 --frames-per-chunk 1 is estimated to fit; choose a smaller --model"
