"""Views of a bank's pictures: turned, mirrored, enlarged, cropped, and changed in intensity, with their masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqsam.sam.reference.data import Bank
from dfqsam.synth.layouts import boxes_of

LEAST = 48  # pixels of an object in a view; smaller ones do not count
ENLARGED = (0.75, 1.9)
DARK = 0.15  # chance that a picture's intensities are inverted


@dataclass(frozen=True)
class Views:
    """B pictures with M objects each, of side S.

    Attributes:
        images: B x 3 x S x S in [0, 1].
        valid: B x 1 x S x S bool; false where a picture that is not square is padded, at the bottom or right.
        masks: B x M x S x S bool.
        weight: B x M, 1 for objects that can be seen well enough to learn from, else 0.
    """

    images: Tensor
    valid: Tensor
    masks: Tensor
    weight: Tensor


class Draw:
    """Random numbers on one device."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator, device=self.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device) < probability

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)


def views(bank: Bank, pictures: Tensor, objects: Tensor, draw: Draw, size: int) -> Views:
    """One view of each of the ``pictures`` (B numbers), with the ``objects`` (B x M numbers of masks of it)."""
    squares = bank.pictures[pictures].float() / 255
    layers = bank.masks[objects]
    grid, valid = _grid(bank.shapes[pictures].float(), layers, draw, size)
    images = F.grid_sample(squares, grid, mode="bilinear", align_corners=False).clamp(0, 1)
    masks = F.grid_sample(layers.float(), grid, mode="bilinear", align_corners=False) > 0.5
    masks = masks & valid
    whole = layers.flatten(2).sum(2)
    seen = masks.flatten(2).sum(2)
    weight = ((seen >= LEAST) & (seen < 0.95 * valid.flatten(2).sum(2)) & (whole > 0)).float()
    return Views(intensities(images, draw) * valid, valid, masks, weight)


def _grid(shapes: Tensor, layers: Tensor, draw: Draw, size: int) -> tuple[Tensor, Tensor]:
    """Where in its square each pixel of a view is taken from (B x S x S x 2, -1 to 1), and which pixels it has."""
    count, side = len(shapes), layers.shape[-1]
    height, width = shapes[:, 0], shapes[:, 1]
    longest = torch.maximum(height, width)
    quarter = draw.chance(0.3, count)  # turned upright
    angle = draw.uniform(-0.35, 0.35, count) * draw.chance(0.5, count) + quarter * (math.pi / 2)
    mirrored = torch.where(draw.chance(0.5, count), -1.0, 1.0)
    low, high = (math.log(value) for value in ENLARGED)
    zoom = draw.uniform(low, high, count).exp()
    stretch = draw.uniform(-0.15, 0.15, count).exp()

    square = draw.chance(0.4, count)
    shape = torch.stack([torch.where(quarter, width, height), torch.where(quarter, height, width)], 1)
    out = torch.where(square[:, None], torch.ones_like(shape), shape / longest[:, None]) * size  # rows, columns

    boxes = boxes_of(layers[:, :1])[:, 0]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = (zoom - 1 + draw.uniform(0, 0.5, count)).clamp(0, 1)[:, None]
    centre = torch.stack([width, height], 1) / 2 * (1 - near) + middle * near
    centre = centre + draw.uniform(-0.12, 0.12, count, 2) * (longest / zoom)[:, None]

    steps = torch.arange(size, device=shapes.device).float()
    u = (steps[None, None, :] + 0.5 - out[:, 1, None, None] / 2).expand(count, size, size)
    v = (steps[None, :, None] + 0.5 - out[:, 0, None, None] / 2).expand(count, size, size)
    scale = (longest / size / zoom)[:, None, None]
    u, v = u * scale * (mirrored * stretch)[:, None, None], v * scale
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    x = cos * u - sin * v + centre[:, 0, None, None]
    y = sin * u + cos * v + centre[:, 1, None, None]
    valid = (steps[None, :, None] < out[:, 0, None, None]) & (steps[None, None, :] < out[:, 1, None, None])
    return torch.stack([x, y], 3) * (2 / side) - 1, valid[:, None]


def intensities(images: Tensor, draw: Draw) -> Tensor:
    """B x 3 x S x S in [0, 1] with other contrast, brightness, gamma, colour, sharpness and noise; some inverted."""
    count = len(images)

    def some(probability: float, changed: Tensor, images: Tensor) -> Tensor:
        return torch.where(draw.chance(probability, count)[:, None, None, None], changed, images)

    def each(low: float, high: float, channels: int = 1) -> Tensor:
        return draw.uniform(low, high, count, channels)[:, :, None, None]

    images = some(0.2, images.mean(1, keepdim=True).expand_as(images), images)
    images = some(0.5, images.clamp_min(1e-4) ** each(-0.6, 0.6).exp(), images)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = some(0.6, (images - mean) * each(0.5, 1.5) + mean + each(-0.15, 0.15), images)
    images = some(0.25, images * each(0.7, 1.3, 3), images).clamp(0, 1)
    images = some(DARK, 1 - images, images)
    images = some(0.25, _blurred(images, float(draw.uniform(0.5, 1.8, 1))), images)
    noise = draw.normal(count, 1, *images.shape[2:]) * each(0, 0.08)
    return some(0.35, images + noise, images).clamp(0, 1)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    steps = torch.arange(-4, 5, device=images.device).float()
    kernel = (-0.5 * (steps / sigma) ** 2).exp()
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 9)
    padded = F.pad(images, (4, 4, 4, 4), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)
