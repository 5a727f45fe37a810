"""Images in [0, 1] as the sigmoid of a sum of logits at several resolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = (32, 8, 4, 2, 1)
# Logits of a start image stay where the sigmoid still has a slope.
MARGIN = 0.02


class Pyramid(nn.Module):
    """B x 3 x S x S images whose coarse levels keep the spectrum close to that of pictures, where free pixels would
    drift into noise."""

    base: Tensor

    def __init__(self, base: Tensor, levels: list[Tensor]) -> None:
        super().__init__()
        self.register_buffer("base", base)
        self.levels = nn.ParameterList(levels)

    @classmethod
    def random(cls, count: int, size: int, seed: int) -> Pyramid:
        """Smooth noise around mid-grey, from the seed."""
        generator = torch.Generator().manual_seed(seed)
        sides = [max(1, size // step) for step in STEPS]
        levels = [0.5 * torch.randn(count, 3, side, side, generator=generator) for side in sides]
        return cls(torch.zeros(count, 3, size, size), levels)

    @classmethod
    def around(cls, images: Tensor) -> Pyramid:
        """Starts at ``images`` (B x 3 x S x S in [0, 1], up to a small margin at both ends)."""
        count, _, size, _ = images.shape
        sides = [max(1, size // step) for step in STEPS]
        levels = [images.new_zeros(count, 3, side, side) for side in sides]
        return cls(images.clamp(MARGIN, 1 - MARGIN).logit(), levels)

    def forward(self) -> Tensor:
        shape = (self.base.shape[2], self.base.shape[3])
        grown = [F.interpolate(level, shape, mode="bilinear", align_corners=False) for level in self.levels]
        return torch.stack([self.base, *grown]).sum(0).sigmoid()


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference between neighbours of each image of B x C x H x W; B."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean((1, 2, 3))
    right = (images[..., 1:] - images[..., :-1]).abs().mean((1, 2, 3))
    return (down + right) / 2
