"""Areas and volumes of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.view import View
from dfqsam.imaging.volume import Volume


def area_mm2(volume: Volume, view: View, mask: ArrayLike) -> float:
    """Area in mm2 of an H x W mask on a slice of ``view``.

    Raises:
        InputError: when the file does not say how large a pixel is, or the mask has another size.
    """
    inside = view.store(np.asarray(mask, bool))
    if view.spacing is None:
        raise InputError("The file does not say how large a pixel is in mm, so an area is known in pixels only.")
    count = float(inside.sum())
    if volume.affine is None:
        return count * view.spacing[0] * view.spacing[1]
    first, second = (volume.affine[:3, axis] for axis in range(3) if axis != view.axis)
    if view.axis and volume.positions is not None and volume.spacing is not None and volume.spacing[0]:
        # Slices of different thickness are cut: what a pixel covers depends on its slice.
        count = float((inside.sum(axis=1) * thicknesses(volume)).sum()) / volume.spacing[0]
    return count * float(np.linalg.norm(np.cross(first, second)))


def thicknesses(volume: Volume) -> NDArray[np.float64]:
    """How many mm of the patient each slice stands for, along the normal (S values).

    Where steps differ, a slice reaches half-way to its neighbours, and as far outwards as inwards at the ends.

    Raises:
        InputError: when the file does not say.
    """
    if volume.positions is not None:
        steps = np.diff(np.asarray(volume.positions))
        edges = np.concatenate([steps[:1], steps, steps[-1:]])
        return (edges[:-1] + edges[1:]) / 2
    if volume.affine is not None and volume.spacing is not None and volume.spacing[0] is not None:
        inside = np.linalg.norm(np.cross(volume.affine[:3, 1], volume.affine[:3, 2]))
        return np.full(volume.shape[0], abs(np.linalg.det(volume.affine[:3, :3])) / inside)
    if volume.spacing is None or volume.spacing[0] is None:
        raise InputError("The file does not say how thick a slice is, so a volume is known in voxels only.")
    return np.full(volume.shape[0], volume.spacing[0])


def voxel_millilitres(volume: Volume) -> NDArray[np.float64]:
    """Volume in ml of one voxel of each slice (S values).

    Raises:
        InputError: when the file does not say how large a voxel is.
    """
    mm = thicknesses(volume)
    view = volume.view()
    if view.spacing is None:
        raise InputError("The file does not say how large a voxel is in mm, so a volume is known in voxels only.")
    pixel = view.spacing[0] * view.spacing[1]
    if volume.affine is not None:
        pixel = float(np.linalg.norm(np.cross(volume.affine[:3, 1], volume.affine[:3, 2])))
    return np.asarray(mm, np.float64) * pixel / 1000


def millilitres(volume: Volume, mask: ArrayLike) -> float:
    """Volume in ml of an S x R x C mask (what is not 0).

    Raises:
        InputError: when the file does not say how large a voxel is, or the mask has another shape.
    """
    inside = np.asarray(mask) != 0
    if inside.shape != volume.shape:
        raise InputError(f"The mask has shape {inside.shape}; the volume has {volume.shape} (slices, rows, columns).")
    return float(inside.sum(axis=(1, 2)) @ voxel_millilitres(volume))
