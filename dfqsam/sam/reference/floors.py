"""What needs no learning: the ellipse that fills a box, and GrabCut. A model has to beat both."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

ROUNDS = 5  # of GrabCut, as in OpenCV's own example

Box = tuple[float, float, float, float]


def ellipse(shape: tuple[int, int], box: Box) -> NDArray[np.bool_]:
    """The ellipse inscribed in a box (x0, y0, x1, y1: indices of the outermost pixels), as a mask of ``shape``.

    >>> ellipse((3, 5), (1, 0, 3, 2)).astype(int).tolist()
    [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]
    """
    x0, y0, x1, y1 = box
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    across, down = max((x1 - x0) / 2, 0.5), max((y1 - y0) / 2, 0.5)
    return ((columns - (x0 + x1) / 2) / across) ** 2 + ((rows - (y0 + y1) / 2) / down) ** 2 <= 1


def grab_cut(picture: NDArray[np.uint8], box: Box, seed: int = 0) -> NDArray[np.bool_]:
    """GrabCut (Rother et al., 2004) from a box on a picture H x W x 3; the whole box where it finds nothing, or where
    the box leaves no background to learn from."""
    height, width = picture.shape[:2]
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    x1, y1 = min(width - 1, round(box[2])), min(height - 1, round(box[3]))
    whole = np.zeros((height, width), np.bool_)
    whole[y0 : y1 + 1, x0 : x1 + 1] = True
    if whole.all():
        return whole
    cv2.setRNGSeed(seed)
    labels, models = np.zeros((height, width), np.uint8), (np.zeros((1, 65)), np.zeros((1, 65)))
    rectangle = (x0, y0, x1 - x0 + 1, y1 - y0 + 1)
    try:
        cv2.grabCut(picture[..., ::-1].copy(), labels, rectangle, *models, ROUNDS, cv2.GC_INIT_WITH_RECT)
    except cv2.error:  # fewer pixels than colours to tell apart
        return whole
    mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return mask if mask.any() else whole
