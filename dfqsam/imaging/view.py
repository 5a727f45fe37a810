"""How a slice of the stored array is turned for the eye, and how a mask drawn on it finds its way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.extra import studies

Plane = Literal["stored", "axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("stored", "axial", "coronal", "sagittal")
Mm = float

# Towards which side an axis of patient space runs, backwards and forwards (RAS: right to left is backwards).
LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))

# Axis of patient space that is looked along, then those that run down and to the right of the picture with their
# directions: radiological convention, the patient's right on the left of the picture, the nose left in a sagittal one.
RADIOLOGICAL: dict[str, tuple[int, tuple[int, int], tuple[int, int]]] = {
    "axial": (2, (1, -1), (0, -1)),
    "coronal": (1, (2, -1), (0, -1)),
    "sagittal": (0, (2, -1), (1, -1)),
}


@dataclass(frozen=True)
class Sides:
    """Letters (R L A P S I) of the sides of a picture, each the nearest direction of the patient."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class View:
    """One way of looking at a volume: slices across ``axis``, transposed and flipped for display.

    Nothing is interpolated: every pixel of a picture is one voxel, and :meth:`store` undoes :meth:`show` exactly.

    Args:
        plane: stored (as in the file), axial, coronal or sagittal.
        axis: axis of the array that is looked along: 0 slices, 1 rows, 2 columns.
        transposed: rows and columns change places, before flips.
        flipped: whether the picture's rows (top to bottom) and its columns are reversed.
        count: number of slices.
        shape: height and width of a picture in pixels.
        spacing: height and width of a pixel in mm, None where unknown.
        sides: None where the orientation is unknown.
    """

    plane: Plane
    axis: int
    transposed: bool
    flipped: tuple[bool, bool]
    count: int
    shape: tuple[int, int]
    spacing: tuple[Mm, Mm] | None
    sides: Sides | None

    @property
    def aspect(self) -> float:
        """Height of a pixel by its width; 1 where unknown. A viewer stretches pictures by it, masks never."""
        return 1.0 if self.spacing is None else self.spacing[0] / self.spacing[1]

    def _flips(self) -> tuple[slice, slice]:
        return slice(None, None, -1 if self.flipped[0] else 1), slice(None, None, -1 if self.flipped[1] else 1)

    def show(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The picture (H x W, or H x W x 3) of a slice as it lies in the array."""
        turned = stored.swapaxes(0, 1) if self.transposed else stored
        return np.ascontiguousarray(turned[self._flips()])

    def store(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The inverse of :meth:`show`, for masks.

        Raises:
            InputError: when the picture has another size than this view's.
        """
        if picture.shape[:2] != self.shape:
            raise InputError(f"The mask has shape {picture.shape[:2]}; a {self.plane} slice has {self.shape}.")
        turned = picture[self._flips()]
        return np.ascontiguousarray(turned.swapaxes(0, 1) if self.transposed else turned)


def _directions(affine: NDArray[np.float64]) -> list[tuple[int, int]]:
    """For each axis of the array the axis of patient space it is nearest to, and 1 or -1 for forwards or backwards."""
    found = studies("nibabel.orientations").io_orientation(affine)
    return [(int(axis), int(sign)) for axis, sign in found]


def _sides(down: tuple[int, int], right: tuple[int, int]) -> Sides:
    def ends(direction: tuple[int, int]) -> tuple[str, str]:
        backwards, forwards = LETTERS[direction[0]]
        return (backwards, forwards) if direction[1] > 0 else (forwards, backwards)

    (top, bottom), (left, end) = ends(down), ends(right)
    return Sides(left, end, top, bottom)


def make_view(
    shape: tuple[int, int, int],
    spacing: tuple[Mm | None, Mm, Mm] | None,
    affine: NDArray[np.float64] | None,
    plane: Plane,
) -> View:
    """The view of an array of ``shape`` (slices, rows, columns) in ``plane``.

    Raises:
        InputError: for an unknown plane, and for any but ``stored`` where the orientation is unknown.
    """
    if plane not in PLANES:
        raise InputError(f"The plane {plane!r} is none of {', '.join(PLANES)}.")
    directions = None if affine is None else _directions(affine)
    if plane == "stored":
        axis, transposed, flipped = 0, False, (False, False)
        sides = None if directions is None else _sides(directions[1], directions[2])
    elif directions is None:
        raise InputError(f"The file does not say how the patient lies, so there is no {plane} plane; use 'stored'.")
    else:
        through, down, right = RADIOLOGICAL[plane]
        at = {space: (axis, sign) for axis, (space, sign) in enumerate(directions)}
        axis = at[through][0]
        transposed = at[down[0]][0] > at[right[0]][0]
        flipped = (at[down[0]][1] != down[1], at[right[0]][1] != right[1])
        sides = _sides(down, right)
    inside = [i for i in range(3) if i != axis]
    rows, columns = reversed(inside) if transposed else inside
    size = None
    if spacing is not None:
        high, wide = spacing[rows], spacing[columns]
        size = None if high is None or wide is None else (high, wide)
    return View(plane, axis, transposed, flipped, shape[axis], (shape[rows], shape[columns]), size, sides)
