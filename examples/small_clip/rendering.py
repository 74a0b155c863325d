"""Cut-out pictures composed into scenes: a whole batch at a time, on any device.

Shapes: B pictures, H by W pixels. Colours are in 0..1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(batch: int, low: float, high: float, like: Tensor) -> Tensor:
    """Draws (B, 1, 1, 1) numbers from low..high."""
    return torch.empty(batch, 1, 1, 1, device=like.device).uniform_(low, high)


def smooth_noise(batch: int, channels: int, cells: int, size: int, like: Tensor) -> Tensor:
    """Low-frequency Gaussian noise, (B, channels, size, size)."""
    coarse = torch.randn(batch, channels, cells, cells, device=like.device)
    return F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)


def affine_grid(scale: Tensor, degrees: Tensor, shift: Tensor, mirror: Tensor, size: int) -> Tensor:
    """Where each output pixel looks in the picture, (B, size, size, 2).

    Args:
        scale: Magnification (B,).
        degrees: Rotation (B,).
        shift: Right and down, as a part of the frame (B, 2).
        mirror: 1 or -1 (B,).
        size: Edge of the output in pixels.
    """
    angle = degrees * math.pi / 180
    cos, sin = angle.cos() / scale, angle.sin() / scale
    linear = torch.stack([torch.stack([mirror * cos, mirror * sin], -1), torch.stack([-sin, cos], -1)], 1)
    offset = -(linear @ (2 * shift).unsqueeze(-1))
    return F.affine_grid(torch.cat([linear, offset], -1), [len(scale), 1, size, size], align_corners=False)


def backgrounds(batch: int, size: int, like: Tensor) -> Tensor:
    """Solid, gradient and low-frequency noise backgrounds, a third each, (B, 3, size, size)."""
    cells = size // 8  # nothing here needs more detail
    kind = torch.randint(3, (batch, 1, 1, 1), device=like.device)
    solid = torch.rand(batch, 3, 1, 1, device=like.device)
    axis = torch.linspace(-1, 1, cells, device=like.device)
    angle = uniform(batch, 0, 2 * math.pi, like)
    ramp = angle.cos() * axis.view(1, 1, 1, cells) + angle.sin() * axis.view(1, 1, cells, 1)
    gradient = (torch.rand(batch, 3, 1, 1, device=like.device) - 0.5) * ramp * (kind == 1)
    noise = 0.3 * smooth_noise(batch, 3, 5, cells, like) * (kind == 2)
    coarse = (solid + gradient + noise).clamp(0, 1)
    return F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)


def occluders(centre: Tensor, extent: Tensor, degrees: Tensor, ellipse: Tensor, size: int) -> Tensor:
    """Masks of rotated boxes and ellipses, (B, 1, size, size).

    Args:
        centre: In -1..1 of the frame (B, 2).
        extent: Half axes (B, 2), same units.
        degrees: Rotation (B,).
        ellipse: Which are ellipses, boolean (B,).
        size: Edge of the output in pixels.
    """
    axis = torch.linspace(-1, 1, size, device=centre.device)
    x = axis.view(1, 1, size) - centre[:, 0].view(-1, 1, 1)
    y = axis.view(1, size, 1) - centre[:, 1].view(-1, 1, 1)
    angle = (degrees * math.pi / 180).view(-1, 1, 1)
    u = ((x * angle.cos() + y * angle.sin()) / extent[:, 0].view(-1, 1, 1)).abs()
    v = ((y * angle.cos() - x * angle.sin()) / extent[:, 1].view(-1, 1, 1)).abs()
    return (torch.where(ellipse.view(-1, 1, 1), u.square() + v.square(), torch.maximum(u, v)) < 1).unsqueeze(1).float()


def premultiply(pictures: Tensor) -> Tensor:
    """RGBA uint8 (B, 4, H, W) to premultiplied floats, so that resampling makes no fringes."""
    pictures = pictures.float() / 255
    return torch.cat([pictures[:, :3] * pictures[:, 3:], pictures[:, 3:]], 1)


def plain(pictures: Tensor) -> Tensor:
    """Composes RGBA uint8 pictures (B, 4, H, W) onto white, (B, 3, H, W)."""
    pictures = premultiply(pictures)
    return pictures[:, :3] + 1 - pictures[:, 3:]


def training_views(pictures: Tensor, strength: float) -> Tensor:
    """Random scenes of RGBA uint8 pictures (B, 4, H, W), as (B, 3, H, W).

    Position, pose, colour and shading vary, a background and sometimes an occluder join in.

    Args:
        pictures: One cut-out each, square.
        strength: From 0, hardly changed, to 1, as wild as the test clips and a little beyond.
    """
    batch, _, _, size = pictures.shape
    device = pictures.device
    pictures = premultiply(pictures)

    scale = torch.exp(torch.empty(batch, device=device).uniform_(-0.4, 0.35) * (0.3 + 0.7 * strength))
    degrees = torch.empty(batch, device=device).uniform_(-25, 25) * (0.3 + 0.7 * strength)
    shift = torch.empty(batch, 2, device=device).uniform_(-0.25, 0.25) * (0.2 + 0.8 * strength)
    mirror = torch.randint(2, (batch,), device=device) * 2.0 - 1
    grid = affine_grid(scale, degrees, shift, mirror, size)
    # Another house draws the same pose with other proportions: a smooth warp stands in for that.
    grid = grid + 0.08 * smooth_noise(batch, 2, 4, size, pictures).permute(0, 2, 3, 1)
    pictures = F.grid_sample(pictures, grid, align_corners=False)
    colour, alpha = pictures[:, :3], pictures[:, 3:]

    # Hue, saturation and exposure at once: a random linear map of colours near the identity.
    mixing = torch.eye(3, device=device) + 0.2 * torch.randn(batch, 3, 3, device=device)
    grey = (torch.rand(batch, 1, 1, device=device) < 0.15).float()
    mixing = mixing * (1 - grey) + grey / 3
    colour = (mixing @ colour.flatten(2)).view_as(colour)
    shading = 1 + 0.25 * smooth_noise(batch, 1, 4, size, pictures)
    colour = (colour * shading).clamp(min=0).minimum(alpha)

    scenery = (torch.rand(batch, 1, 1, 1, device=device) < 0.2 + 0.6 * strength).float()
    background = scenery * backgrounds(batch, size, pictures) + 1 - scenery
    scene = colour + (1 - alpha) * background

    centre = torch.empty(batch, 2, device=device).uniform_(-1, 1)
    extent = torch.empty(batch, 2, device=device).uniform_(0.1, 0.4)
    occluded = (torch.rand(batch, 1, 1, 1, device=device) < 0.5 * strength).float()
    turned = torch.empty(batch, device=device).uniform_(0, 180)
    mask = occluded * occluders(centre, extent, turned, torch.rand(batch, device=device) < 0.5, size)
    scene = scene + mask * (torch.rand(batch, 3, 1, 1, device=device) - scene)

    # Clips are resized from other sizes: some are softer than the stills.
    soft = F.interpolate(F.avg_pool2d(scene, 2), scale_factor=2, mode="bilinear", align_corners=False)
    return (scene + uniform(batch, 0, 1, scene) * (soft - scene)).clamp(0, 1)
