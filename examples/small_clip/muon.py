"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al., 2024).

`torch.optim.Muon` orthogonalises one matrix at a time and always in bfloat16, which processors without bfloat16
instructions emulate a hundred times slower. Here matrices of one shape share one batched product in their own type.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Pushes the singular values of (N, rows, columns) matrices towards one (quintic Newton-Schulz)."""
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    Args:
        params: Matrices, and convolutions as matrices with one row for each output. Fused query-key-value weights
            (3d, d) count as three matrices.
        lr: Learning rate; each update is about this large in spectral norm.
        momentum: Decay of the momentum.
        weight_decay: Shrinkage, times the learning rate.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates all weights that have a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(momentum, group["momentum"])
                update = update.flatten(1)
                parts = 3 if update.size(0) == 3 * update.size(1) else 1
                for target, part in zip(weight.chunk(parts), update.chunk(parts), strict=True):
                    by_shape[part.shape].append((target, part))
            for (rows, columns), pairs in by_shape.items():
                updates = orthogonalise(torch.stack([part for _, part in pairs]))
                step_size = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (target, _), update in zip(pairs, updates, strict=True):
                    target.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.view_as(target), alpha=step_size)


def optimisers(module: nn.Module, blocks: nn.Module, muon_lr: float, adamw_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices and convolutions of the blocks, AdamW for everything else in the module that is trained."""
    matrices = [parameter for parameter in blocks.parameters() if parameter.ndim >= 2]
    taken = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in module.parameters() if id(parameter) not in taken and parameter.requires_grad]
    return [
        Muon(matrices, lr=muon_lr, weight_decay=0.02),
        torch.optim.AdamW(others, lr=adamw_lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]
