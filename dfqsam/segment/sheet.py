"""A contact sheet: some slices of a study with the outlines of what was found, for a look."""

from __future__ import annotations

import math

import cv2
import numpy as np

from dfqsam.imaging import View, Window
from dfqsam.runtime import overlay
from dfqsam.runtime.overlay import Colour, Picture
from dfqsam.segment.found import Found, Segmentation

TILES = 12
COLUMNS = 4
SIDE = 360  # pixels of a tile's longer side
FILL = 0.15
WHITE: Colour = (255, 255, 255)
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


def _drawn(
    found: Segmentation, view: View, k: int, size: tuple[int, int], boxes: list[Found], window: Window | str | None
) -> Picture:
    """Slice k as wide and high as ``size`` says, with outlines and boxes."""
    index: list[int | slice] = [slice(None)] * 3
    index[view.axis] = k
    labels = cv2.resize(view.show(found.mask[tuple(index)]), size, interpolation=cv2.INTER_NEAREST)
    picture = found.volume.picture(k, view, window)
    drawn: Picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    for number, label in enumerate(found.names):
        drawn = overlay.draw_mask(drawn, labels == label, COLOURS[number % len(COLOURS)], strength=FILL)
    for one in boxes:
        scale = size[0] / view.shape[1], size[1] / view.shape[0]
        if one.prompt.box is not None:
            x0, y0, x1, y1 = np.array(one.prompt.box) * (scale * 2)
            drawn = overlay.draw_box(drawn, (x0, y0, x1, y1), WHITE)
        if one.prompt.points:
            drawn = overlay.draw_points(drawn, np.array(one.prompt.points) * scale, one.prompt.inside)
    return drawn


def contact_sheet(found: Segmentation, window: Window | str | None = None) -> Picture:
    """Up to 12 slices of the first prompt's plane in rows of 4, pixels as wide as they are high, the prompts' boxes (in
    white) and clicks; of a study of one slice, the picture in its own size. RGB uint8.

    Args:
        found: of :func:`segment_study`.
        window: as for that function.
    """
    plane = found.found[0].prompt.plane
    assert plane is not None  # filled in by segment_study
    view = found.volume.view(plane)
    here = [one for one in found.found if one.prompt.plane == plane]
    if view.count == 1:
        return _drawn(found, view, 0, (view.shape[1], view.shape[0]), here, window)
    height, width = view.shape[0] * view.aspect, float(view.shape[1])
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    tiles = []
    for k in _chosen(here, view.count):
        boxes = [one for one in here if one.prompt.slice == k]
        text = f"{view.plane} {k}" + (", prompt" if boxes else "")
        tiles.append(overlay.caption(_drawn(found, view, k, size, boxes, window), text))
    columns = min(COLUMNS, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])
