"""A small convolutional network: learns fast from few pictures, then teaches the ViT."""

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        hidden = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))


class ConvTeacher(nn.Module):
    """A ResNet for 64x64 pictures with one unit-length prototype for each concept.

    Args:
        prototypes: Where the prototypes start (C, D), in the space that pictures and captions will share.
        width: Channels at 32x32; doubled at 16x16 and again at 8x8 and 4x4.
    """

    def __init__(self, prototypes: Tensor, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stage1 = nn.Sequential(ResidualBlock(width, 2 * width, 2), ResidualBlock(2 * width, 2 * width, 1))
        self.stage2 = nn.Sequential(ResidualBlock(2 * width, 4 * width, 2), ResidualBlock(4 * width, 4 * width, 1))
        self.stage3 = ResidualBlock(4 * width, 8 * width, 2)
        self.proj = nn.Linear(8 * width, prototypes.shape[1])
        self.prototypes = nn.Parameter(prototypes.clone())
        self.map_channels = 4 * width

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 3, 64, 64) to unit-length features (B, D) and the map (B, 64, channels) of the 8x8 patches."""
        patches = self.stage2(self.stage1(self.stem(images)))
        pooled = self.stage3(patches).mean((2, 3))
        return F.normalize(self.proj(pooled), dim=-1), patches.flatten(2).transpose(1, 2)
