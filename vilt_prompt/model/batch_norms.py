"""The batch norms of a frozen model, whose running statistics are frozen as well."""

from __future__ import annotations

from torch import nn


def freeze_statistics(model: nn.Module) -> None:
    """Put batch norms into eval mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training = False
