"""Which calibration images a pass is fitted on, and which it is judged by."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

IMAGES = 16  # at 256 px; larger inputs take fewer, so that memory stays bounded


def few(batches: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """The first calibration images (each 1 x 3 x S x S) and how many of them to fit on; the rest, a quarter and at
    least one, is held out. A single image comes back with 0 to fit on: it leaves none to judge by.
    """
    if len(batches) < 2:
        return list(batches), 0
    count = max(2, min(IMAGES, len(batches), IMAGES * 256**2 // batches[0].shape[-1] ** 2))
    return list(batches[:count]), count - max(1, count // 4)
