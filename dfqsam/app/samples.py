"""Pictures to begin with, drawn in code: they show how the viewer works and are no patient's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dfqsam.imaging import Volume
from dfqsam.runtime.overlay import GREEN, ORANGE, SKY_BLUE

SIDE = 256
Floats = NDArray[np.float64]


def _blurred(values: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float64)


def _ellipse(x: float, y: float, wide: float, high: float, turn: float = 0.0, wavy: float = 0.0) -> NDArray[np.bool_]:
    """An ellipse on a square of 256 pixels, turned by degrees, its outline uneven where ``wavy``."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    angle = np.deg2rad(turn)
    across = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    down = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    direction = np.arctan2(down, across)
    edge = 1 + wavy * (np.sin(3 * direction + 1) + 0.6 * np.sin(5 * direction))
    return (across / wide) ** 2 + (down / high) ** 2 < edge**2


def _abdomen(k: int, slices: int, noise: np.random.Generator) -> Floats:
    """One slice in Hounsfield units: body, liver with a lesion, spleen, kidneys, spine, aorta, stomach with air."""
    at = (k - slices / 2) / (slices / 2)  # -1 at the feet's end to 1 at the head's
    size = np.sqrt(max(0.0, 1 - 0.55 * at**2))
    out = np.full((SIDE, SIDE), -1000.0)
    out[_ellipse(128, 132, 112, 84)] = -95
    out[_ellipse(128, 133, 102, 75)] = 52
    out[_ellipse(128, 128, 92, 63)] = -80
    out[_ellipse(88, 116, 50 * size, 40 * size, -18, 0.05)] = 108
    out[_ellipse(186, 132, 24 * size, 32 * size, 14, 0.04)] = 118
    out[_ellipse(150, 100, 30 * size, 20 * size, 25)] = 34
    out[_ellipse(152, 92, 20 * size, 9 * size, 8)] = -850
    for x, turn in ((84, 18), (172, -18)):
        kidney = _ellipse(x, 168, 15 * size, 20 * size, turn)
        out[kidney] = 160
        out[kidney & _ellipse(x + (7 if x < 128 else -7), 168, 7, 9 * size)] = 20
    out[_ellipse(128, 178, 19, 16)] = 260
    out[_ellipse(128, 178, 13, 10)] = 140
    out[_ellipse(128, 203, 7, 12)] = 420
    out[_ellipse(136, 152, 8, 8)] = 175
    lesion = 1 - ((k - slices * 0.5) / 5.5) ** 2
    if lesion > 0:
        out[_ellipse(76, 112, 15 * np.sqrt(lesion), 12 * np.sqrt(lesion), 30, 0.06)] = 52
    return _blurred(out, 0.9) + _blurred(noise.normal(0, 34, out.shape), 0.8)


@cache
def abdomen() -> Volume:
    """A CT phantom of an abdomen: 24 slices of 5 mm, pixels of 1.4 mm."""
    noise = np.random.default_rng(7)
    array = np.stack([_abdomen(k, 24, noise) for k in range(24)]).round().astype(np.int16)
    affine = np.array([[0, 0, -1.4, 179], [0, -1.4, 0, 179], [5.0, 0, 0, -60], [0, 0, 0, 1]])
    return Volume(array, (5.0, 1.4, 1.4), affine, "CT")


def _texture(rng: np.random.Generator, sigma: float) -> Floats:
    made = _blurred(rng.normal(0, 1, (SIDE, SIDE)), sigma)
    return made / made.std()


@cache
def skin() -> Volume:
    """A drawing of a pigmented lesion on skin, 512 x 512 pixels, in colour."""
    rng = np.random.default_rng(3)
    shade = 1 + 0.02 * _texture(rng, 2) + 0.03 * _texture(rng, 18)
    picture = np.array([226.0, 176, 152]) * shade[..., None]
    lesion = _blurred(_ellipse(132, 124, 58, 46, 24, 0.09).astype(float), 2.5)
    dark = _blurred(_ellipse(118, 130, 27, 21, -10, 0.12).astype(float), 4)
    pigment = np.clip(0.72 * lesion + 0.1 * lesion * _texture(rng, 3) + 0.25 * dark, 0, 1)[..., None]
    picture = (1 - pigment) * picture + pigment * (np.array([104.0, 62, 44]) - 34 * dark[..., None])
    large = cv2.resize(np.clip(picture, 0, 255).astype(np.uint8), (512, 512), interpolation=cv2.INTER_CUBIC)
    return Volume(np.asarray(large, np.uint8)[None])


@cache
def ultrasound() -> Volume:
    """A drawing of a cyst in speckle, 512 x 512 pixels."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    depth, angle = np.hypot(columns - 128, rows + 60), np.arctan2(columns - 128, rows + 60)
    fan = (np.abs(angle) < 0.46) & (depth > 70) & (depth < 300)
    level = 0.42 + 0.1 * _texture(rng, 14) - 0.0007 * (depth - 70)
    cyst = _blurred(_ellipse(140, 132, 36, 27, -12, 0.04).astype(float), 1.2)
    behind = (np.abs(angle - np.arctan2(12, 192)) < 0.16) & (depth > 215)
    level = level * (1 - 0.93 * cyst) + 0.13 * _blurred(behind.astype(float), 5)
    rim = _blurred(_ellipse(140, 132, 39, 30, -12, 0.04).astype(float), 1.5) - cyst
    speckle = np.abs(_texture(rng, 1.1) + 1j * _texture(rng, 1.1)) / 1.25
    grey = np.clip(255 * (level + 0.35 * np.clip(rim, 0, 1)) * speckle, 0, 255) * fan
    large = cv2.resize(grey.astype(np.uint8), (512, 512), interpolation=cv2.INTER_CUBIC)
    return Volume(np.repeat(np.asarray(large, np.uint8)[None, ..., None], 3, axis=3))


@cache
def icon() -> NDArray[np.uint8]:
    """Two discs that overlap, 64 x 64 x 3: the page's icon. (Streamlit would fetch a named one from the internet.)"""
    picture = np.full((64, 64, 3), 255, np.uint8)
    rows, columns = np.mgrid[:64, :64]
    one, two = ((columns - x) ** 2 + (rows - 32) ** 2 < 20**2 for x in (23, 41))
    picture[one], picture[two], picture[one & two] = ORANGE, SKY_BLUE, GREEN
    return picture


# Title, what to try, and the maker.
SAMPLES: dict[str, tuple[str, Callable[[], Volume]]] = {
    "CT phantom": ("24 slices: draw a box around the liver, or the dark lesion in it", abdomen),
    "Skin lesion": ("a drawing in colour: draw a box around the lesion", skin),
    "Ultrasound": ("a drawing: draw a box around the dark cyst", ultrasound),
}
