"""Random organ-like regions, the pseudo masks that synthesis begins with, and what is read off a mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LAYOUTS = 3
"""M, the most regions an image can have."""
EXTENT = (0.06, 0.35)
"""Range of a region's longest diameter as a share of the image's side; log-uniform."""
TRIES = 20
# Ring walls thinner than this break apart on the pixel grid.
THINNEST = 2.0

Plane = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _ellipse(u: Plane, v: Plane, radius: float, rng: np.random.Generator) -> Mask:
    minor = max(1.0, radius * rng.uniform(0.4, 1))
    return (u / radius) ** 2 + (v / minor) ** 2 <= 1


def _lobed(u: Plane, v: Plane, radius: float, rng: np.random.Generator) -> Mask:
    """A star-shaped blob: its radius is a short random Fourier series of the angle."""
    angle, wave = np.arctan2(v, u), np.zeros_like(u)
    for order in range(2, 6):
        wave += rng.uniform(0, 0.5 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(u, v) * (1 + np.abs(wave).max()) <= radius * (1 + wave)


def _ring(u: Plane, v: Plane, radius: float, rng: np.random.Generator) -> Mask:
    minor = radius * rng.uniform(0.6, 1)
    hole = min(rng.uniform(0.4, 0.75), 1 - THINNEST / minor)
    outer = (u / radius) ** 2 + (v / minor) ** 2
    return (outer <= 1) & (outer > max(hole, 0) ** 2)


def _pair(u: Plane, v: Plane, radius: float, rng: np.random.Generator) -> Mask:
    """Two lobes that mirror each other, as lungs and kidneys do."""
    width, tilt = radius * rng.uniform(0.25, 0.4), rng.uniform(-0.4, 0.4)
    height = width * rng.uniform(1, 2)
    across = np.abs(u) - (radius - width)
    turned = np.cos(tilt) * across + np.sin(tilt) * v, np.cos(tilt) * v - np.sin(tilt) * across
    return (turned[0] / width) ** 2 + (turned[1] / height) ** 2 <= 1


KINDS: tuple[Callable[[Plane, Plane, float, np.random.Generator], Mask], ...] = (_ellipse, _lobed, _ring, _pair)


def _region(rng: np.random.Generator, size: int) -> Mask:
    """One region, its centre so far from the border that its longest diameter fits."""
    low, high = np.log(EXTENT)
    radius = max(1.0, size * float(np.exp(rng.uniform(low, high))) / 2)
    x, y = rng.uniform(radius, max(radius, size - 1 - radius), 2)
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    turn = rng.uniform(0, np.pi)
    u = np.cos(turn) * (columns - x) + np.sin(turn) * (rows - y)
    v = np.cos(turn) * (rows - y) - np.sin(turn) * (columns - x)
    return KINDS[int(rng.integers(len(KINDS)))](u, v, radius, rng)


def _near(mask: Mask) -> Mask:
    """The mask and the pixels next to it."""
    wide = np.pad(mask, 1)
    wide[1:] |= wide[:-1].copy()
    wide[:-1] |= wide[1:].copy()
    wide[:, 1:] |= wide[:, :-1].copy()
    wide[:, :-1] |= wide[:, 1:].copy()
    return wide[1:-1, 1:-1]


def random_layouts(count: int, size: int, seed: int) -> Tensor:
    """count x LAYOUTS x size x size bool: 1 to LAYOUTS regions an image that do not touch; absent ones are empty.

    Image i depends on the seed (0 or more) and on i alone. A region that finds no free place stays absent.
    """
    layouts = np.zeros((count, LAYOUTS, size, size), np.bool_)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        wanted, found = int(rng.integers(1, LAYOUTS + 1)), 0
        taken = np.zeros((size, size), np.bool_)
        for _ in range(TRIES):
            region = _region(rng, size)
            if region.any() and not (region & taken).any():
                layouts[i, found] = region
                taken |= _near(region)
                found += 1
            if found == wanted:
                break
        if not found:
            layouts[i, 0, size // 2, size // 2] = True
    return torch.from_numpy(layouts)


def present(masks: Tensor) -> Tensor:
    """Which masks of N x M x S x S bool hold anything; N x M bool."""
    return masks.flatten(2).any(2)


def boxes_of(masks: Tensor) -> Tensor:
    """The boxes of N x M x H x W bool masks: N x M x 4 float, x0, y0, x1, y1, the outermost pixels' indices.

    Zeros for empty masks.

    >>> boxes_of(torch.tensor([[[[False, True, True], [False, False, True]]]]))
    tensor([[[1., 0., 2., 1.]]])
    """
    columns, rows = masks.any(2).int(), masks.any(3).int()
    x0, y0 = columns.argmax(2), rows.argmax(2)
    x1 = masks.shape[3] - 1 - columns.flip(2).argmax(2)
    y1 = masks.shape[2] - 1 - rows.flip(2).argmax(2)
    return torch.stack([x0, y0, x1, y1], 2).float() * present(masks)[..., None]
