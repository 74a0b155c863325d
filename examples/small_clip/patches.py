"""Patch dropout that remembers which patches it kept."""

import torch
from torch import Tensor, nn


class KeepPatches(nn.Module):
    """Drops a part of the patch tokens, as open_clip's patch dropout does, and remembers which were kept.

    Attributes:
        kept: Part of the patches to keep.
        chosen: Numbers of the patches kept last (B, kept patches).
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept = 0.5
        self.chosen = torch.empty(0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (B, 1 + patches, width) to (B, 1 + kept patches, width); the class token stays."""
        batch, count, width = tokens.shape
        keep = round(self.kept * (count - 1))
        self.chosen = torch.rand(batch, count - 1, device=tokens.device).topk(keep, dim=1).indices  # (B, kept)
        patches = tokens[:, 1:].gather(1, self.chosen.unsqueeze(-1).expand(-1, -1, width))
        return torch.cat([tokens[:, :1], patches], 1)
