"""Masks drawn on pictures, in colours that the colour-blind tell apart (Okabe and Ito). Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

ORANGE: Colour = (230, 159, 0)
SKY_BLUE: Colour = (86, 180, 233)
GREEN: Colour = (0, 158, 115)
YELLOW: Colour = (240, 228, 66)
BLUE: Colour = (0, 114, 178)
VERMILION: Colour = (213, 94, 0)
PURPLE: Colour = (204, 121, 167)
CAPTION_HEIGHT = 28
FILL = 0.3


def _line_width(picture: Picture) -> int:
    return max(1, round(max(picture.shape[:2]) / 400))


def _checked(picture: Picture, mask: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.shape != picture.shape[:2]:
        raise InputError(f"The mask has shape {array.shape}; the picture has {picture.shape[:2]} (height, width).")
    return array.astype(bool)


def fill(picture: Picture, mask: ArrayLike, colour: Colour, strength: float = FILL) -> Picture:
    """A copy of ``picture`` (H x W x 3) with ``colour`` blended in where ``mask`` (H x W) holds; strength 0 to 1."""
    inside = _checked(picture, mask)
    out = picture.copy()
    out[inside] = np.rint((1 - strength) * out[inside] + strength * np.array(colour)).astype(np.uint8)
    return out


def draw_mask(picture: Picture, mask: ArrayLike, colour: Colour = ORANGE, strength: float = FILL) -> Picture:
    """A copy of ``picture`` (H x W x 3 RGB uint8) with ``mask`` (H x W) lightly filled and its outline drawn.

    Raises:
        InputError: when the two have different sizes.
    """
    inside = _checked(picture, mask)
    out = np.ascontiguousarray(fill(picture, inside, colour, strength))
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(out, contours, -1, colour, _line_width(picture))
    return out


def draw_box(picture: Picture, box: Sequence[float], colour: Colour = SKY_BLUE) -> Picture:
    """A copy of ``picture`` with the outline of ``box`` (x0, y0, x1, y1 in pixels)."""
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    return np.asarray(cv2.rectangle(picture.copy(), (x0, y0), (x1 - 1, y1 - 1), colour, _line_width(picture)), np.uint8)


def draw_points(picture: Picture, points: ArrayLike, labels: ArrayLike) -> Picture:
    """A copy of ``picture`` with points (N x 2, x and y in pixels): green discs inside, vermilion ones outside."""
    out = picture.copy()
    radius = 2 * _line_width(picture) + 1
    for (x, y), label in zip(np.asarray(points), np.asarray(labels), strict=True):
        cv2.circle(out, (round(float(x)), round(float(y))), radius, GREEN if label else VERMILION, cv2.FILLED)
    return out


def difference(picture: Picture, first: ArrayLike, second: ArrayLike) -> Picture:
    """A copy of ``picture``: green where both masks hold, orange where only ``first``, blue where only ``second``."""
    a, b = _checked(picture, first), _checked(picture, second)
    out = fill(picture, a & b, GREEN)
    return fill(fill(out, a & ~b, ORANGE, 0.9), b & ~a, BLUE, 0.9)


def caption(picture: Picture, text: str) -> Picture:
    """``picture`` with a dark strip of 28 pixels above it that carries ``text``, shrunk where it is too wide."""
    strip = np.full((CAPTION_HEIGHT, picture.shape[1], 3), 24, np.uint8)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    scale = 0.5 * min(1.0, max(1, picture.shape[1] - 8) / max(1, width))
    cv2.putText(strip, text, (4, CAPTION_HEIGHT - 9), cv2.FONT_HERSHEY_SIMPLEX, scale, (240,) * 3, 1, cv2.LINE_AA)
    return np.vstack([strip, picture])


def panel(
    picture: Picture,
    full: ArrayLike,
    quantized: ArrayLike,
    box: Sequence[float] | None = None,
    titles: tuple[str, str, str] = ("full precision", "quantized", "difference"),
) -> Picture:
    """Three pictures side by side, each with a caption: the full-precision mask, the quantized one, their difference.

    Args:
        picture: H x W x 3 RGB uint8.
        full: H x W mask.
        quantized: H x W mask.
        box: the prompt, x0, y0, x1, y1 in pixels, drawn into the first two.
        titles: the captions.

    Returns:
        (H + 28) x 3W x 3, uint8.
    """
    parts = [draw_mask(picture, full, ORANGE), draw_mask(picture, quantized, BLUE)]
    if box is not None:
        parts = [draw_box(part, box) for part in parts]
    parts.append(difference(picture, full, quantized))
    return np.hstack([caption(part, title) for part, title in zip(parts, titles, strict=True)])
