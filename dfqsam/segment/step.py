"""One step from a slice to the next: what of a mask is the object, its box, whether to go on. Pure functions."""

from __future__ import annotations

from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from dfqsam.segment.prompt import Box
from dfqsam.segment.rules import Propagation

Mask = NDArray[np.bool_]


class Stop(StrEnum):
    """Why the propagation of an object went no further."""

    EDGE = "edge"
    LIMIT = "limit"
    PROMPT = "prompt"
    SINGLE = "single"
    EMPTY = "empty"
    SMALL = "small"
    QUALITY = "quality"
    OVERLAP = "overlap"
    AREA = "area"


WORDS = {
    Stop.EDGE: "the stack ends",
    Stop.LIMIT: "the limit that was set",
    Stop.PROMPT: "another box of the object takes over",
    Stop.SINGLE: "one slice was asked for",
    Stop.EMPTY: "the model finds nothing",
    Stop.SMALL: "what the model finds is tiny",
    Stop.QUALITY: "the model is not sure of its mask",
    Stop.OVERLAP: "the mask lies elsewhere than on the slice before",
    Stop.AREA: "the area of the mask jumps",
}


def part(mask: Mask, before: Mask) -> Mask:
    """The connected parts of ``mask`` that touch ``before`` (both H x W), the object on the slice before."""
    count, labelled = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    parts = np.asarray(labelled, np.int32)
    touched = np.zeros(count, bool)
    touched[np.unique(parts[before])] = True
    touched[0] = False
    return touched[parts]


def box_of(mask: Mask, margin: float, share: float) -> Box:
    """The box around a mask that is not empty, within the picture, wider on each side by ``margin`` pixels or by
    ``share`` of the picture's longer side, whichever is more."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x0, x1, y0, y1 = float(columns[0]), float(columns[-1] + 1), float(rows[0]), float(rows[-1] + 1)
    more = max(margin, share * max(mask.shape))
    return max(0.0, x0 - more), max(0.0, y0 - more), min(float(width), x1 + more), min(float(height), y1 + more)


def verdict(mask: Mask, before: Mask, quality: float, largest: int, rules: Propagation) -> Stop | None:
    """Why ``mask`` is not taken, None where it is.

    Args:
        mask: H x W, what the model gave, and of it what belongs to the object.
        before: the object on the slice before.
        quality: the model's own estimate of its IoU, 0 to 1.
        largest: pixels of the object where it was largest so far.
        rules: limits.
    """
    area, area_before = int(mask.sum()), int(before.sum())
    if not area:
        return Stop.EMPTY
    if area < max(rules.least_pixels, rules.least_share * largest):
        return Stop.SMALL
    if quality < rules.least_quality:
        return Stop.QUALITY
    common = int((mask & before).sum())
    if common < rules.least_overlap * (area + area_before) / 2:
        return Stop.OVERLAP
    if not 1 / rules.most_growth <= area / area_before <= rules.most_growth:
        return Stop.AREA
    return None
