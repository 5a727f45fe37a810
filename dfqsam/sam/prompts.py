"""Points and boxes of the original frame as the prompt tensors of the decoder (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError
from dfqsam.sam import geometry

NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT, PADDING = 0.0, 1.0, 2.0, 3.0, -1.0

Floats = NDArray[np.float32]


def _numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be plain numbers.") from error
    if not np.isfinite(array).all():
        raise InputError(f"{what} must be finite numbers; one is NaN or infinite.")
    return array


def checked_box(box: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A box as 4 numbers (x0, y0, x1, y1), in pixels of a picture of ``shape`` (height, width).

    Raises:
        InputError: unless 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height.
    """
    array = _numbers(box, "The box's coordinates")
    if array.shape not in ((4,), (1, 4)):
        raise InputError(f"The box has shape {array.shape}; give 4 numbers: x0, y0, x1, y1.")
    x0, y0, x1, y1 = array = array.reshape(4)
    text = f"The box {x0:g},{y0:g},{x1:g},{y1:g}"
    if x1 <= x0 or y1 <= y0:
        raise InputError(f"{text} is empty; give x0,y0,x1,y1 with x0 < x1 and y0 < y1.")
    if x0 < 0 or y0 < 0 or x1 > shape[1] or y1 > shape[0]:
        raise InputError(f"{text} reaches outside the picture, which is {shape[1]} wide and {shape[0]} high (pixels).")
    return array


def checked_points(
    coords: ArrayLike, labels: ArrayLike | None, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points N x 2 as (x, y) in pixels of a picture of ``shape``, and their N labels (1 inside, 0 outside the object).

    Raises:
        InputError: for other shapes, no point, labels that are missing, not 0 or 1, or of another number, and for a
            point outside the picture.
    """
    points = _numbers(coords, "The points' coordinates")
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise InputError(f"The points have shape {points.shape}; give N x 2 numbers: one x, y a point.")
    if labels is None:
        raise InputError("The points have no labels; give one a point: 1 inside the object, 0 outside.")
    marks = _numbers(labels, "The labels")
    if marks.shape != (len(points),):
        raise InputError(f"There are {len(points)} points and {marks.size} labels; give one label a point.")
    if not np.isin(marks, (NEGATIVE, POSITIVE)).all():
        raise InputError("A label is neither 0 nor 1; give 1 for a point inside the object, 0 for one outside.")
    for x, y in points:
        if not (0 <= x <= shape[1] and 0 <= y <= shape[0]):
            raise InputError(
                f"The point {x:g},{y:g} is outside the picture ({shape[1]} wide, {shape[0]} high, pixels)."
            )
    return points, marks


def prompt_tensors(
    shape: tuple[int, int],
    size: int,
    point_coords: ArrayLike | None = None,
    point_labels: ArrayLike | None = None,
    box: ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """The decoder's ``point_coords`` [1, N, 2] and ``point_labels`` [1, N], in the input frame of side ``size``.

    The user's points come first, then the box as its top-left (label 2) and bottom-right (label 3) corners; without a
    box, one padding point (0, 0) with label -1 ends the list, as SAM's own prompt encoder has it.

    Raises:
        InputError: as :func:`checked_box` and :func:`checked_points`, and for labels without points.
    """
    places: list[NDArray[np.float64]] = []
    marks: list[float] = []
    if point_coords is not None:
        points, labels = checked_points(point_coords, point_labels, shape)
        places.append(points)
        marks.extend(labels.tolist())
    elif point_labels is not None:
        raise InputError("There are labels without points; give both, or neither.")
    if box is not None:
        places.append(checked_box(box, shape).reshape(2, 2))
        marks.extend((TOP_LEFT, BOTTOM_RIGHT))
    else:
        places.append(np.zeros((1, 2)))
        marks.append(PADDING)
    coords = geometry.to_input_frame(np.concatenate(places), shape, size)
    return coords[None], np.array([marks], np.float32)
