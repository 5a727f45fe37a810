"""Procedurally drawn pictures: a soft background, organ-like ellipses and polygons, texture and speckle.

No picture is read; every draw comes from the seed. Half are grey, half are coloured, as medical pictures are.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.float32]


def _field(rng: np.random.Generator, size: int, coarse: int) -> Image:
    """A smooth random field (size x size, mean 0, deviation 1) whose features are size / coarse wide."""
    grid = rng.standard_normal((coarse + 1, coarse + 1)).astype(np.float32)
    field = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return ((field - field.mean()) / (field.std() + 1e-6)).astype(np.float32)


def _texture(rng: np.random.Generator, size: int) -> Image:
    """Fields of every scale added up, with an amplitude that falls with the frequency like a random power."""
    slope = rng.uniform(0.5, 1.5)
    total = np.zeros((size, size), np.float32)
    coarse = 2
    while coarse <= size // 2:
        total += _field(rng, size, coarse) * coarse**-slope
        coarse *= 2
    return (total / (total.std() + 1e-6)).astype(np.float32)


def _region(rng: np.random.Generator, size: int) -> Image:
    """A soft-edged mask in [0, 1]: an ellipse or a random polygon, with a wavy rim."""
    mask = np.zeros((size, size), np.uint8)
    x, y = (rng.uniform(0.1, 0.9, 2) * size).astype(int)
    radius = size * rng.uniform(0.03, 0.35)
    if rng.random() < 0.6:
        axes = (max(2, int(radius)), max(2, int(radius * rng.uniform(0.3, 1))))
        cv2.ellipse(mask, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 14)))
        reach = radius * rng.uniform(0.5, 1.2, len(angles))
        corners = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 255)
    soft = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.6, 4))).astype(np.float32) / 255
    wave = _field(rng, size, int(rng.integers(4, 16)))
    return np.clip(soft + np.float32(0.6) * wave * soft * (1 - soft), 0, 1).astype(np.float32)


def _picture(rng: np.random.Generator, size: int) -> Image:
    grey = rng.random() < 0.5

    def colour() -> Image:
        tone = np.repeat(rng.uniform(0, 1, 1), 3) if grey else rng.uniform(0, 1, 3)
        return tone.astype(np.float32)

    def textured(amount: float) -> Image:
        pattern = _texture(rng, size)[..., None]
        gains = np.ones(3) if grey else rng.uniform(0.3, 1, 3)
        return np.asarray(colour() + pattern * amount * gains, np.float32)

    picture = textured(rng.uniform(0.02, 0.15))
    for _ in range(int(rng.integers(3, 13))):
        alpha = _region(rng, size)[..., None] * np.float32(rng.uniform(0.4, 1))
        picture = picture * (1 - alpha) + textured(rng.uniform(0.01, 0.12)) * alpha
    if rng.random() < 0.5:  # a field of view on black, as in fundus, endoscopy, CT and ultrasound pictures
        view = np.zeros((size, size), np.uint8)
        axes = (int(size * rng.uniform(0.3, 0.55)), int(size * rng.uniform(0.3, 0.55)))
        cv2.ellipse(view, (size // 2, size // 2), axes, 0, 0, 360, 255, -1)
        picture = picture * (cv2.GaussianBlur(view, (0, 0), 1.5).astype(np.float32) / 255)[..., None]
    picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.5:  # speckle
        picture = picture * (1 + rng.uniform(0.02, 0.2) * rng.standard_normal((size, size, 1)).astype(np.float32))
    return np.asarray(np.clip(picture, 0, 1), np.float32)


def shapes(count: int, size: int, seed: int) -> Tensor:
    """count x 3 x size x size drawn pictures in [0, 1]. Picture i depends on the seed and on i alone."""
    pictures = [_picture(np.random.default_rng([seed, i]), size) for i in range(count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def paint(images: Tensor, masks: Tensor, seed: int) -> Tensor:
    """Images (B x 3 x S x S in [0, 1]) with an object drawn wherever a mask (B x M x S x S) lies: a tone of its own and
    a little texture behind a soft edge, so that pseudo masks start on something that can be seen."""
    size, painted = images.shape[-1], []
    for i, (image, layers) in enumerate(zip(images, masks, strict=True)):
        rng = np.random.default_rng([seed, i, 2])
        picture = image.permute(1, 2, 0).numpy().copy()
        grey = float(np.abs(picture[..., 0] - picture[..., 2]).mean()) < 0.01
        for mask in layers.numpy():
            if not mask.any():
                continue
            soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), float(rng.uniform(0.8, 2)))[..., None]
            inside = picture[mask].mean(0)
            shift = np.repeat(rng.uniform(0.2, 0.45, 1), 3) if grey else rng.uniform(0.1, 0.5, 3)
            tone = np.where(inside > 0.5, inside - shift, inside + shift).astype(np.float32)
            object_ = tone + _texture(rng, size)[..., None] * np.float32(rng.uniform(0.01, 0.06))
            picture = picture * (1 - 0.8 * soft) + object_ * 0.8 * soft
        painted.append(torch.from_numpy(np.clip(picture, 0, 1).astype(np.float32)).permute(2, 0, 1))
    return torch.stack(painted)
