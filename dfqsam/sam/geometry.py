"""Image, point, box and mask geometry of SAM, in numpy and OpenCV only (shared by training, export and runtime).

Two frames: the *original* frame (pixels of the picture as read, height x width) and the *input* frame (the square that
the encoder sees, longest side resized to ``size``, padding at the bottom and right). Coordinates are (x, y) in pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width after the longest side is resized to ``size``, each at least 1 pixel (as SAM rounds).

    >>> resized_shape(300, 600, 256)
    (128, 256)
    """
    if height < 1 or width < 1:
        raise InputError(f"The picture is empty ({height} x {width} pixels); give one with at least one pixel.")
    scale = size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def as_rgb(image: ArrayLike) -> NDArray[np.uint8]:
    """An HxW, HxWx1 or HxWx3 uint8 picture as HxWx3 RGB.

    Raises:
        InputError: for another shape or dtype, or for an empty picture.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise InputError(f"The picture has dtype {array.dtype}; give 8-bit values (uint8, 0 to 255).")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise InputError(f"The picture has shape {np.shape(image)}; give height x width, or height x width x 3 (RGB).")
    if 0 in array.shape:
        raise InputError(f"The picture is empty (shape {np.shape(image)}); give one with at least one pixel.")
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def resize_longest_side(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """HxWx3 uint8 picture with its longest side resized to ``size``: area mean when shrinking, linear when growing."""
    height, width = resized_shape(image.shape[0], image.shape[1], size)
    if (height, width) == image.shape[:2]:
        return image
    shrinking = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method).astype(np.uint8, copy=False)


def to_input_frame(points: ArrayLike, shape: tuple[int, int], size: int) -> NDArray[np.float32]:
    """Points (..., 2) as (x, y) from the original frame of ``shape`` (height, width) to the input frame."""
    height, width = resized_shape(*shape, size)
    scale = np.array([width / shape[1], height / shape[0]])
    return (np.asarray(points, dtype=np.float64) * scale).astype(np.float32)


def to_original_frame(points: ArrayLike, shape: tuple[int, int], size: int) -> NDArray[np.float32]:
    """The inverse of :func:`to_input_frame`."""
    height, width = resized_shape(*shape, size)
    scale = np.array([shape[1] / width, shape[0] / height])
    return (np.asarray(points, dtype=np.float64) * scale).astype(np.float32)


def undo_on_logits(logits: NDArray[np.float32], shape: tuple[int, int], size: int) -> NDArray[np.float32]:
    """Mask logits N x h x w of the whole input square back to N x H x W in the original frame (SAM's order of steps).

    Upsampled to ``size`` x ``size`` (linear), padding cropped, then resized (linear) to the original shape.
    """
    height, width = resized_shape(*shape, size)
    out = np.empty((len(logits), *shape), np.float32)
    for i, plane in enumerate(logits):
        square = plane if plane.shape == (size, size) else cv2.resize(plane, (size, size))
        out[i] = cv2.resize(np.ascontiguousarray(square[:height, :width]), (shape[1], shape[0]))
    return out
