"""Gradients of a batch that does not fit into memory, computed in parts. They equal the whole batch's up to rounding.

Shapes: B videos of this process, T frames, D features.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from examples.paper.training.random_state import random_state, set_random_state


class Objective(Protocol):
    """A loss of a batch of videos (B, T, 3, H, W) with their numbers (B,)."""

    def alone(self, network: nn.Module, videos: Tensor, numbers: Tensor) -> Tensor:
        """Returns a scalar with the graph of one pass, without news from other processes."""

    def backward(
        self, network: nn.Module, videos: Tensor, numbers: Tensor, micro_batch: int, passes: "Passes"
    ) -> Tensor:
        """Add the gradients of the batch to the parameters' gradients, in parts of `micro_batch` videos.

        Returns:
            The loss of the batch, detached.
        """


@dataclass(frozen=True)
class Passes:
    """What surrounds each forward and backward pass.

    Attributes:
        device: Where the model is. The videos go there part by part.
        autocast: Opens mixed precision.
        scaler: Scales losses, in fp16.
    """

    device: torch.device
    autocast: Callable[[], contextlib.AbstractContextManager[object]]
    scaler: GradScaler


@dataclass(frozen=True)
class MeanObjective:
    """A loss that is a mean over the videos, as cross-entropy over classes: each part adds its share.

    A term that does not depend on the videos is in the loss of every part, and the shares add up to 1.

    Attributes:
        loss: Gets the network, videos and numbers, and returns a scalar.
    """

    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]

    def alone(self, network: nn.Module, videos: Tensor, numbers: Tensor) -> Tensor:
        """See `Objective`."""
        return self.loss(network, videos, numbers)

    def backward(self, network: nn.Module, videos: Tensor, numbers: Tensor, micro_batch: int, passes: Passes) -> Tensor:
        """See `Objective`."""
        total = torch.zeros((), device=passes.device)
        starts = range(0, len(videos), micro_batch)
        for start in starts:
            part = slice(start, start + micro_batch)
            share = len(numbers[part]) / len(numbers)
            with _synchronised(network, is_last=start == starts[-1]):
                with passes.autocast():
                    loss = self.loss(network, videos[part].to(passes.device), numbers[part].to(passes.device)) * share
                passes.scaler.scale(loss).backward()
            total += loss.detach()
        return total


@dataclass(frozen=True)
class JointObjective:
    """A loss in which every video meets all others, as the contrastive loss does.

    The features of all parts are computed without a graph, then the gradients of the loss for these features, and then
    each part once more, with its graph (gradient caching: Gao et al., 2021, arXiv:2101.06983).

    Attributes:
        features: Gets the network, videos and numbers, and returns tensors with a row for each video.
        loss: Gets these tensors, of the whole batch, and returns a scalar.
    """

    features: Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, ...]]
    loss: Callable[[tuple[Tensor, ...]], Tensor]

    def alone(self, network: nn.Module, videos: Tensor, numbers: Tensor) -> Tensor:
        """See `Objective`."""
        return torch.stack([features.float().sum() for features in self.features(network, videos, numbers)]).sum()

    def backward(self, network: nn.Module, videos: Tensor, numbers: Tensor, micro_batch: int, passes: Passes) -> Tensor:
        """See `Objective`."""
        starts = range(0, len(videos), micro_batch)
        if len(starts) == 1:
            with passes.autocast():
                loss = self.loss(self.features(network, videos.to(passes.device), numbers.to(passes.device)))
            passes.scaler.scale(loss).backward()
            return loss.detach()

        def part(start: int) -> tuple[Tensor, ...]:
            rows = slice(start, start + micro_batch)
            with passes.autocast():
                return self.features(network, videos[rows].to(passes.device), numbers[rows].to(passes.device))

        states, parts = [], []
        with torch.no_grad():
            for start in starts:
                states.append(random_state(passes.device))  # Dropout must be the same when a part comes again.
                parts.append(part(start))
        cached = tuple(torch.cat(rows).requires_grad_() for rows in zip(*parts, strict=True))
        with passes.autocast():
            loss = self.loss(cached)
        gradients = torch.autograd.grad(passes.scaler.scale(loss), cached)
        after = random_state(passes.device)
        for number, start in enumerate(starts):
            set_random_state(states[number], passes.device)
            with _synchronised(network, is_last=start == starts[-1]):
                outputs = part(start)
                rows = [gradient[start : start + micro_batch] for gradient in gradients]
                learned = [(out, row) for out, row in zip(outputs, rows, strict=True) if out.requires_grad]
                torch.autograd.backward([out for out, _ in learned], [row for _, row in learned])
        set_random_state(after, passes.device)
        return loss.detach()


def _synchronised(network: nn.Module, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """Several processes average their gradients once, after the last part."""
    if isinstance(network, DistributedDataParallel) and not is_last:
        return network.no_sync()
    return contextlib.nullcontext()
