"""Cut-out clips rendered into scenes that vary as real footage does, a whole batch at a time.

On a clean background a few shots of these clips are solved by comparing pixels, so nothing would be learned from them.
Here scale, rotation, place, background, camera and an occluder vary, so that only the action tells classes apart.

Shapes: B clips, T frames, H by W pixels of a cut-out, S by S pixels of a scene. Places are in -1..1 of the frame.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor


class Dice:
    """Random numbers that depend on nothing but the seed."""

    def __init__(self, seed: int) -> None:
        self.generator = Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draws from low..high."""
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def integer(self, below: int, *shape: int) -> Tensor:
        """Draws from 0..below - 1."""
        return torch.randint(below, shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Draws from N(0, 1)."""
        return torch.randn(shape, generator=self.generator)


def wild(clips: Tensor, size: int, dice: Dice) -> Tensor:
    """Renders cut-outs in front of random backgrounds, filmed by a moving camera, with a moving occluder.

    Args:
        clips: uint8 (B, T, 4, H, W), cut-outs from `read_alpha`, stacked.
        size: S, the edge of the scenes in pixels.
        dice: Where the chance comes from; equal seeds give equal scenes.

    Returns:
        Scenes in 0..1, (B, T, 3, S, S).
    """
    batch, frames = clips.shape[:2]
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    screen = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)  # [S, S, 2]: right, down
    time = torch.linspace(-0.5, 0.5, frames).view(1, frames, 1)  # [1, T, 1]

    camera = dice.uniform(-0.3, 0.3, batch, 1, 2) * time  # [B, T, 2]
    world = screen + rearrange(camera, "b t xy -> b t 1 1 xy")  # [B, T, S, S, 2]

    figure = _figures(clips, world, dice)
    scene = figure[:, :, :3] + (1 - figure[:, :, 3:]) * _backgrounds(world, dice)
    mask = _occluders(screen, time, batch, dice)
    return torch.lerp(scene, dice.uniform(0, 1, batch, 1, 3, 1, 1), mask).clamp(0, 1)


def _figures(clips: Tensor, world: Tensor, dice: Dice) -> Tensor:
    """Places each clip's person in the world: premultiplied colour and alpha, (B, T, 4, S, S)."""
    batch = len(clips)
    scale = dice.uniform(0.7, 1.4, batch)
    angle = dice.uniform(-20, 20, batch) * math.pi / 180
    place = dice.uniform(-0.5, 0.5, batch, 1, 1, 1, 2)  # a quarter of the frame each way
    mirror = dice.integer(2, batch) * 2.0 - 1

    cos, sin = angle.cos() / scale, angle.sin() / scale
    turn = torch.stack([torch.stack([mirror * cos, mirror * sin], -1), torch.stack([-sin, cos], -1)], 1)  # [B, 2, 2]
    grid = torch.einsum("bij,bthwj->bthwi", turn, world - place)

    # Colour times alpha before resampling, or edges take on the colour of transparent pixels.
    colour, alpha = clips[:, :, :3] / 255, clips[:, :, 3:] / 255
    pictures = rearrange(torch.cat([colour * alpha, alpha], 2), "b t c h w -> (b t) c h w")
    placed = F.grid_sample(pictures, rearrange(grid, "b t h w xy -> (b t) h w xy"), align_corners=False)
    return rearrange(placed, "(b t) c h w -> b t c h w", b=batch)


def _backgrounds(world: Tensor, dice: Dice) -> Tensor:
    """Solid, gradient and low-frequency noise, a third each, standing still in the world, (B, T, 3, S, S)."""
    batch = len(world)
    kind = dice.integer(3, batch, 1, 1, 1, 1)
    solid = dice.uniform(0, 1, batch, 1, 3, 1, 1)

    angle = dice.uniform(0, 2 * math.pi, batch)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    ramp = torch.einsum("bthwi,bi->bthw", world, direction).unsqueeze(2)
    gradient = dice.uniform(-0.5, 0.5, batch, 1, 3, 1, 1) * ramp

    # The camera drifts by 0.15 at most: 0.85 keeps its view inside the noise.
    grid = 0.85 * rearrange(world, "b t h w xy -> b (t h) w xy")
    noise = F.grid_sample(0.3 * dice.normal(batch, 3, 5, 5), grid, align_corners=True)
    noise = rearrange(noise, "b c (t h) w -> b t c h w", t=world.shape[1])
    return (solid + gradient * (kind == 1) + noise * (kind == 2)).clamp(0, 1)


def _occluders(screen: Tensor, time: Tensor, batch: int, dice: Dice) -> Tensor:
    """One ellipse or box for each clip, that crosses part of the screen: masks (B, T, 1, S, S)."""
    middle, path = dice.uniform(-0.8, 0.8, batch, 1, 2), dice.uniform(-0.8, 0.8, batch, 1, 2)
    centre = rearrange(middle + path * time, "b t xy -> b t 1 1 xy")
    extent = dice.uniform(0.12, 0.35, batch, 1, 1, 1, 2)
    x, y = ((screen - centre) / extent).abs().unbind(-1)  # [B, T, S, S]
    round_ = dice.integer(2, batch, 1, 1, 1).bool()
    return (torch.where(round_, x.square() + y.square(), torch.maximum(x, y)) < 1).unsqueeze(2).float()
