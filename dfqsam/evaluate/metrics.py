"""Overlap of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dfqsam.errors import InputError


def dice(first: ArrayLike, second: ArrayLike) -> float:
    """Dice coefficient of two masks of one shape, 0 to 1; two empty masks agree fully.

    >>> dice([1, 1, 0], [1, 0, 0])
    0.6666666666666666
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape:
        raise InputError(f"The masks have the shapes {a.shape} and {b.shape}; compare masks of one picture.")
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
