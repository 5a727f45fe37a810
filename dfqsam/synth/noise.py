"""Uniform noise: the floor that every other method has to beat."""

from __future__ import annotations

import torch
from torch import Tensor


def noise(count: int, size: int, seed: int) -> Tensor:
    """count x 3 x size x size images, each value independent and uniform in [0, 1]."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
