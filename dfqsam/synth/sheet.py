"""A contact sheet: how the images of a set formed, with pseudo masks and the masks that the model predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from dfqsam.synth.synthetic_set import SyntheticSet

TILE, GAP, MARGIN, BAND = 320, 8, 16, 34
ROWS, COLUMNS = 8, 8
# Outlines are drawn at twice the size and shrunk with the tile; the wide line shows on both sides of the thin one.
LARGE, WIDE, THIN = 2 * TILE, 11, 3
# Orange and sky blue of Okabe and Ito, which colour-blind people tell apart too.
ORANGE, BLUE = (230, 159, 0), (86, 180, 233)
PAPER, INK = (255, 255, 255), (32, 32, 32)
PSEUDO, PREDICTED = "pseudo mask", "predicted mask"

Picture = NDArray[np.uint8]


def contact_sheet(made: SyntheticSet) -> Picture:
    """RGB H x W x 3: a row for each of the first ROWS images, a column for each stage, with both kinds of masks.

    A set without stages gives a plain grid of its first ROWS x COLUMNS images.
    """
    stages = made.snapshots
    if stages:
        count = min(ROWS, *(len(stage.images) for stage in stages))
        rows = [[_tile(s.images[i], s.masks[i], s.predicted[i]) for s in stages] for i in range(count)]
    else:
        tiles = [_tile(image) for image in made.images[: ROWS * COLUMNS]]
        across = min(COLUMNS, max(1, int(np.ceil(np.sqrt(len(tiles))))))
        rows = [tiles[i : i + across] for i in range(0, len(tiles), across)]
    sheet = _grid(rows, BAND if stages else 0)
    for i, stage in enumerate(stages):
        _write(sheet, stage.title, MARGIN + i * (TILE + GAP), MARGIN + 18)
    if stages:
        _legend(sheet)
    return sheet


def _tile(image: Tensor, masks: Tensor | None = None, predicted: Tensor | None = None) -> Picture:
    """A 3 x S x S image as TILE x TILE x 3 with the outlines of its M x S x S masks."""
    pixels = np.ascontiguousarray((image.detach().permute(1, 2, 0).numpy() * 255).round().clip(0, 255).astype(np.uint8))
    way = cv2.INTER_AREA if len(pixels) > LARGE else cv2.INTER_CUBIC
    tile = np.asarray(cv2.resize(pixels, (LARGE, LARGE), interpolation=way), np.uint8)
    for layers, colour, width in ((masks, ORANGE, WIDE), (predicted, BLUE, THIN)):
        if layers is not None:
            outlines = _outlines(layers)
            # Dark rims keep both colours visible on bright tissue, and the two apart where they coincide.
            cv2.drawContours(tile, outlines, -1, INK, width + 2)
            cv2.drawContours(tile, outlines, -1, colour, width)
    return np.asarray(cv2.resize(tile, (TILE, TILE), interpolation=cv2.INTER_AREA), np.uint8)


def _outlines(masks: Tensor) -> list[NDArray[np.int32]]:
    """The contours of M x S x S masks in the pixels of a large tile, smooth where a mask is enlarged."""
    outlines: list[NDArray[np.int32]] = []
    for mask in masks.numpy().astype(np.float32):
        smooth = cv2.resize(mask, (LARGE, LARGE), interpolation=cv2.INTER_LINEAR)
        shown = (smooth >= 0.5).astype(np.uint8)
        outlines += [np.asarray(o, np.int32) for o in cv2.findContours(shown, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]]
    return outlines


def _grid(rows: list[list[Picture]], band: int) -> Picture:
    """The tiles on white paper, with a free band above and below."""
    across = max((len(row) for row in rows), default=1)
    width = 2 * MARGIN + across * (TILE + GAP) - GAP
    height = 2 * MARGIN + 2 * band + max(len(rows), 1) * (TILE + GAP) - GAP
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            y, x = MARGIN + band + i * (TILE + GAP), MARGIN + j * (TILE + GAP)
            sheet[y : y + TILE, x : x + TILE] = tile
    return sheet


def _legend(sheet: Picture) -> None:
    """Names both colours below the tiles."""
    x, y = MARGIN, sheet.shape[0] - MARGIN - 4
    for text, colour in ((PSEUDO, ORANGE), (PREDICTED, BLUE)):
        cv2.line(sheet, (x, y - 5), (x + 22, y - 5), colour, 4, cv2.LINE_AA)
        x = _write(sheet, text, x + 32, y) + 24


def _write(sheet: Picture, text: str, x: int, y: int) -> int:
    """Writes on the line y, and gives the x where the text ends."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.55
    cv2.putText(sheet, text, (x, y), font, size, INK, 1, cv2.LINE_AA)
    return x + int(cv2.getTextSize(text, font, size, 1)[0][0])
