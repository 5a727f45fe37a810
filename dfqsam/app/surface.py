"""Masks as surfaces: triangles in mm, and how far the quantized one lies from that of full precision."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging import Volume

# What a preview needs: more voxels are joined first, more triangles made coarser.
MOST_VOXELS = 1_500_000
MOST_FACES = 60_000
SMOOTH = 0.7  # voxels, of the distance map: takes the steps between voxels away
MARGIN = 3  # voxels around the masks

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed surface.

    Args:
        vertices: V x 3, mm in the patient (RAS), or along the array's columns, rows and slices where the file does not
            say how the patient lies; pixels where it does not say how large they are.
        normals: V x 3, outwards, of length 1.
        faces: F x 3 indices into the vertices, counter-clockwise seen from outside.
        apart: V distances to the other mask's surface in the unit of the vertices; None where there is no other.
    """

    vertices: Floats
    normals: Floats
    faces: NDArray[np.uint32]
    apart: Floats | None = None


@dataclass(frozen=True)
class _Box:
    """The part of a volume that is looked at, joined ``step`` voxels a time."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    step: NDArray[np.int64]


def _box(masks: list[Mask], size: Floats) -> _Box:
    low, high = np.full(3, np.iinfo(np.int64).max), np.zeros(3, np.int64)
    for mask in masks:
        for axis in range(3):
            there = np.flatnonzero(mask.any(axis=tuple(i for i in range(3) if i != axis)))
            if there.size:
                low[axis], high[axis] = min(low[axis], there[0]), max(high[axis], there[-1] + 1)
    step = np.ones(3, np.int64)
    while np.prod(np.ceil((high - low) / step)) > MOST_VOXELS:
        step[int(np.argmin(size * step))] += 1  # the finest axis first
    return _Box(low, high, step)


def _inside(mask: Mask, box: _Box) -> Mask:
    """The mask within the box, with a margin of nothing; joined voxels are inside where at least half of them are."""
    part = mask[tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))]
    part = np.pad(part, [(0, int(-n % s)) for n, s in zip(part.shape, box.step, strict=True)])
    shape = [value for n, s in zip(part.shape, box.step, strict=True) for value in (n // s, s)]
    joined = part.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32) >= 0.5
    return np.pad(joined, MARGIN)


def _signed(inside: Mask, sampling: Floats) -> Floats:
    """Distance to the mask's surface, positive inside; mm."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    within = np.asarray(distance_transform_edt(inside, sampling=sampling), np.float64)
    without = np.asarray(distance_transform_edt(~inside, sampling=sampling), np.float64)
    made = within - without
    smooth = np.asarray(gaussian_filter(made, SMOOTH), np.float64)
    return smooth if smooth.max() > 0 else made  # what is a voxel thin would be smoothed away


def _place(volume: Volume, box: _Box, points: Floats) -> Floats:
    """From indices of the box's voxels to the patient."""
    index = box.low + (points - MARGIN + 0.5) * box.step - 0.5
    if volume.affine is not None:
        mm = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        if volume.positions is None:
            return mm
        # Steps differ: the affine holds for the first and the last slice, in between positions do.
        at = np.asarray(volume.positions, np.float64)
        even = at[0] + (at[-1] - at[0]) * index[:, 0] / max(1, len(at) - 1)
        known = np.interp(index[:, 0], np.arange(len(at)), at)
        outside = (index[:, 0] < 0) | (index[:, 0] > len(at) - 1)
        along = np.where(outside, 0.0, known - even)
        normal = np.cross(volume.affine[:3, 1], volume.affine[:3, 2])
        normal *= np.sign(normal @ volume.affine[:3, 0]) / np.linalg.norm(normal)
        return mm + along[:, None] * normal
    size = _voxel(volume)
    return (index * size)[:, ::-1]


def _voxel(volume: Volume) -> Floats:
    """Size of a voxel in mm (slices, rows, columns); 1 where unknown."""
    if volume.spacing is None:
        return np.ones(3)
    across = volume.spacing[0]
    if volume.positions is not None and len(volume.positions) > 1:
        across = abs(volume.positions[-1] - volume.positions[0]) / (len(volume.positions) - 1)
    return np.array([across or volume.spacing[1], volume.spacing[1], volume.spacing[2]], np.float64)


def _normals(vertices: Floats, faces: NDArray[np.uint32]) -> Floats:
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.stack(
        [sum(np.bincount(faces[:, c], across[:, axis], len(vertices)) for c in range(3)) for axis in range(3)],
        axis=1,
    )
    return summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)


def enclosed(mesh: Mesh) -> float:
    """Volume inside a mesh, in the cube of its unit; positive where its faces look outwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def _mesh(volume: Volume, box: _Box, field: Floats, other: Floats | None) -> Mesh:
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise InputError("Surfaces need scikit-image; install it with: pip install 'dfqsam[app]'.") from error
    from scipy.ndimage import map_coordinates

    points, faces = np.zeros((0, 3)), np.zeros((0, 3), np.uint32)
    for step in range(1, 9):
        points, faces, _, _ = marching_cubes(field, 0.0, step_size=step, allow_degenerate=False)
        if len(faces) <= MOST_FACES:
            break
    points, faces = np.asarray(points, np.float64), np.asarray(faces, np.uint32)
    vertices = _place(volume, box, points)
    made = Mesh(vertices, vertices, faces)
    if enclosed(made) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    apart = None
    if other is not None:
        away = np.abs(map_coordinates(other, points.T, order=1, mode="nearest"))
        # Distances run between centres of voxels: half a voxel more than to the surface, which lies in between.
        voxel = float(np.min(_voxel(volume) * box.step))
        apart = np.where(away < voxel, away / 2, away - voxel / 2)
    return Mesh(vertices, _normals(vertices, faces), faces, apart)


def surfaces(volume: Volume, quantized: Mask, full: Mask | None = None) -> tuple[Mesh | None, Mesh | None]:
    """Surfaces of the quantized and the full-precision mask (S x R x C); None for one that is empty or not there.

    The first carries its distance to the second. Thick slices are joined by the distance to the outline in them
    (marching cubes on the signed distance map), and what is finer than a voxel is smoothed: a preview, not to measure.

    Raises:
        InputError: when a mask has another shape, or scikit-image is missing.
    """
    given = [quantized, *([] if full is None else [full])]
    if any(mask.shape != volume.shape for mask in given):
        raise InputError(
            f"The mask has shape {quantized.shape}; the volume has {volume.shape} (slices, rows, columns)."
        )
    there = [mask for mask in given if mask.any()]
    if not there:
        return None, None
    size = _voxel(volume)
    box = _box(there, size)
    fields = [_signed(_inside(mask, box), size * box.step) if mask.any() else None for mask in given]
    fields = [field if field is not None and field.max() > 0 else None for field in fields]
    mine, other = fields[0], fields[1] if len(fields) > 1 else None
    return (
        None if mine is None else _mesh(volume, box, mine, other),
        None if other is None else _mesh(volume, box, other, None),
    )


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def packed(mesh: Mesh, centre: Floats, radius: float, most: float | None = None) -> dict[str, Any]:
    """A mesh for the surface component: vertices in 16 bits around ``centre``, normals in 8, triangles, and with
    ``most`` the distances as shades of 0 to 255, which stand for 0 to ``most``."""
    step = radius / 32_000
    document: dict[str, Any] = {
        "vertices": _text(np.rint((mesh.vertices - centre) / step).astype("<i2")),
        "normals": _text(np.rint(mesh.normals * 127).astype(np.int8)),
        "faces": _text(mesh.faces.astype("<u4")),
        "step": step,
        "shades": None,
    }
    if most is not None and mesh.apart is not None:
        document["shades"] = _text(np.rint(np.clip(mesh.apart / most, 0, 1) * 255).astype(np.uint8))
    return document


def round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 and so on.

    >>> round_up(1.2), round_up(5.0), round_up(0.0)
    (2.0, 5.0, 1.0)
    """
    power = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(float(n * power) for n in (1, 2, 5, 10) if value <= n * power * (1 + 1e-9))
