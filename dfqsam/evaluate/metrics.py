"""How well two masks agree: overlap, and distances between their outlines.

Distances come from SciPy's Euclidean distance transform, under the definitions of MONAI (boundary pixels are those that
a binary erosion takes away), which the tests hold it to exactly. Of the ready libraries, surface-distance 0.1 fails
under numpy 2 (``np.Inf``) and has had no release since 2024, MedPy is under the GPL and has no surface Dice, and MONAI
itself needs torch, which this room does without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError

TOLERANCE = 2.0  # of the surface Dice, in mm where the spacing is known, else in pixels

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Mask, Mask]:
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape:
        raise InputError(f"The masks have the shapes {a.shape} and {b.shape}; compare masks of one picture.")
    return a, b


def dice(first: ArrayLike, second: ArrayLike) -> float:
    """Dice coefficient of two masks of one shape, 0 to 1; two empty masks agree fully.

    >>> dice([1, 1, 0], [1, 0, 0])
    0.6666666666666666
    """
    a, b = _pair(first, second)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def iou(first: ArrayLike, second: ArrayLike) -> float:
    """Intersection over union of two masks of one shape, 0 to 1; two empty masks agree fully.

    >>> iou([1, 1, 0], [1, 0, 0])
    0.5
    """
    a, b = _pair(first, second)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


@dataclass(frozen=True)
class Surface:
    """How far two outlines lie apart; see :func:`surface`.

    Attributes:
        hd95: the larger of the two 95th percentiles of the distances from one outline to the other; NaN where a mask is
            empty and there is no distance.
        nsd: normalised surface Dice, 0 to 1: the share of both outlines that lies within the tolerance of the other;
            0 where one mask is empty, 1 where both are.
    """

    hd95: float
    nsd: float


def surface(
    first: ArrayLike, second: ArrayLike, spacing: tuple[float, float] = (1.0, 1.0), tolerance: float = TOLERANCE
) -> Surface:
    """Compare the outlines of two H x W masks.

    Args:
        spacing: size of a pixel as (row, column); mm, or (1, 1) to measure in pixels.
        tolerance: of the surface Dice, in the unit of ``spacing``.

    >>> one, other = np.zeros((2, 9, 9), bool)
    >>> one[2:7, 2], other[2:7, 5] = True, True
    >>> surface(one, other)
    Surface(hd95=3.0, nsd=0.0)
    """
    from scipy.ndimage import binary_erosion, distance_transform_edt

    a, b = _pair(first, second)
    if not a.any() or not b.any():
        return Surface(math.nan, float(a.any() == b.any()))
    rows, columns = np.nonzero(a | b)
    window = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    edges = [mask & np.logical_not(binary_erosion(mask)) for mask in (a[window], b[window])]
    apart = [np.asarray(distance_transform_edt(np.logical_not(edge), sampling=spacing)) for edge in edges]
    there, back = apart[1][edges[0]], apart[0][edges[1]]
    near = int((there <= tolerance).sum()) + int((back <= tolerance).sum())
    hd95 = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return Surface(hd95, near / (len(there) + len(back)))
