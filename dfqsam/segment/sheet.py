"""A contact sheet: some slices of a study with the outlines of what was found, for a look."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from dfqsam.imaging import View, Window
from dfqsam.runtime import overlay
from dfqsam.runtime.overlay import Colour, Picture
from dfqsam.segment.study import Found, Segmentation

TILES = 12
COLUMNS = 4
SIDE = 360  # pixels of a tile's longer side
COLOURS: tuple[Colour, ...] = (
    overlay.ORANGE,
    overlay.SKY_BLUE,
    overlay.GREEN,
    overlay.VERMILION,
    overlay.YELLOW,
    overlay.PURPLE,
    overlay.BLUE,
)


def _chosen(found: list[Found], count: int) -> list[int]:
    """At most TILES slices from the first to the last with an object, evenly, and those of the prompts among them."""
    asked = sorted({one.prompt.slice or 0 for one in found})
    low = min(asked[0], *(one.first for one in found if one.first is not None), count - 1)
    high = max(asked[-1], *(one.last for one in found if one.last is not None), 0)
    asked = asked[:: math.ceil(len(asked) / TILES)]
    spread = np.linspace(low, high, min(TILES - len(asked), high - low + 1)).round().astype(int).tolist()
    return sorted({*asked, *spread})


def _tile(found: Segmentation, view: View, k: int, boxes: list[Found], window: Window | str | None) -> Picture:
    picture = found.volume.picture(k, view, window)
    index: list[int | slice] = [slice(None)] * 3
    index[view.axis] = k
    labels = view.show(found.mask[tuple(index)])
    height, width = view.shape[0] * view.aspect, float(view.shape[1])
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    drawn: NDArray[np.uint8] = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    large = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    for number, label in enumerate(found.names):
        drawn = overlay.draw_mask(drawn, large == label, COLOURS[number % len(COLOURS)], strength=0.15)
    for one in boxes:
        x, y = size[0] / view.shape[1], size[1] / view.shape[0]
        x0, y0, x1, y1 = one.prompt.box
        drawn = overlay.draw_box(drawn, (x0 * x, y0 * y, x1 * x, y1 * y), (255, 255, 255))
    return overlay.caption(drawn, f"{view.plane} {k}" + (", box" if boxes else ""))


def contact_sheet(found: Segmentation, window: Window | str | None = None) -> Picture:
    """RGB uint8: up to 12 slices of the first prompt's plane in rows of 4, pixels as wide as they are high, the prompts'
    boxes in white; a study of one slice is one picture of its own size.

    Args:
        found: of :func:`segment_study`.
        window: as for that function.
    """
    plane = found.found[0].prompt.plane
    assert plane is not None  # filled in by segment_study
    view = found.volume.view(plane)
    here = [one for one in found.found if one.prompt.plane == plane]
    if view.count == 1:
        return _whole(found, view, here, window)
    tiles = [
        _tile(found, view, k, [one for one in here if one.prompt.slice == k], window) for k in _chosen(here, view.count)
    ]
    columns = min(COLUMNS, len(tiles))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def _whole(found: Segmentation, view: View, boxes: list[Found], window: Window | str | None) -> Picture:
    drawn = found.volume.picture(0, view, window)
    index: list[int | slice] = [slice(None)] * 3
    index[view.axis] = 0
    labels = view.show(found.mask[tuple(index)])
    for number, label in enumerate(found.names):
        drawn = overlay.draw_mask(drawn, labels == label, COLOURS[number % len(COLOURS)])
    for one in boxes:
        drawn = overlay.draw_box(drawn, one.prompt.box)
    return drawn
