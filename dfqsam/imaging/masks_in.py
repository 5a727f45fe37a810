"""Reference masks in: from NIfTI, DICOM SEG or a picture onto the grid of the study they belong to."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.dicom.reading import Item
from dfqsam.imaging.dicom.segmentation_in import is_segmentation, read_names, read_segmentation
from dfqsam.imaging.files import opened
from dfqsam.imaging.study import kind_of, open_item
from dfqsam.imaging.volume import Volume

# A voxel of the mask must lie this near (in voxels) to one of the study.
NEAR = 0.05


def read_study_mask(path: str | Path, volume: Volume, whole: bool = False) -> NDArray[np.uint16]:
    """The labels of a mask file, as S x R x C on the voxels of ``volume``; nothing is interpolated.

    A mask in NIfTI, NRRD or MetaImage may be flipped, its axes may be in another order and it may cover a part of the
    study only, as long as each of its voxels is one of the study's. A DICOM SEG is placed by the instances it refers
    to, or by its positions. In a picture, what is not black is label 1.

    Args:
        path: a NIfTI, NRRD or MetaImage file, a DICOM SEG, or a picture for a study of one slice.
        volume: the study.
        whole: refuse such a mask that covers a part only, as a reference that judges others must not. (A DICOM SEG
            leaves out what is empty, so of it nothing can be told.)

    Raises:
        InputError: for a file that :func:`open_study` refuses, another grid, overlapping segments, or values that are
            no labels from 0 to 65535.
    """
    path = Path(path)
    return _read(Item(str(path), lambda: opened(path), path.parent), volume, whole)


def segment_names(path: str | Path) -> dict[int, str]:
    """Label to name of the segments of a DICOM SEG; empty for every other file, as no other format names labels.

    Raises:
        InputError: when the file is missing, empty or damaged.
    """
    path = Path(path)
    item = Item(str(path), lambda: opened(path))
    with item.open() as file:
        if kind_of(file) != "dicom" or not is_segmentation(item):
            return {}
    return read_names(item)


def read_uploaded_mask(name: str, data: bytes, volume: Volume, whole: bool = False) -> NDArray[np.uint16]:
    """:func:`read_study_mask` of a file in memory; nothing is written to a disk.

    Raises:
        InputError: as :func:`read_study_mask`.
    """
    return _read(Item(name, lambda: io.BytesIO(data)), volume, whole)


def _read(item: Item, volume: Volume, whole: bool = False) -> NDArray[np.uint16]:
    name = item.name
    with item.open() as file:
        kind = kind_of(file)
    if kind == "dicom" and is_segmentation(item):
        return read_segmentation(item, volume, lambda array, affine: on_grid(array, affine, volume, name))
    mask = open_item(item)
    labels = _labels(np.asarray(mask.array.any(axis=-1)) if mask.colour else mask.array, name)
    if mask.affine is None or volume.affine is None:
        if labels.shape != volume.shape:
            raise InputError(f"{name} has shape {labels.shape}; the study has {volume.shape} (slices, rows, columns).")
        return labels
    return on_grid(labels, mask.affine, volume, name, whole)


def _labels(array: NDArray[Any], path: str) -> NDArray[np.uint16]:
    with np.errstate(invalid="ignore"):
        whole = array.dtype.kind in "biu" or bool((np.isfinite(array) & (array == np.rint(array))).all())
    if not whole or array.min() < 0 or array.max() > np.iinfo(np.uint16).max:
        raise InputError(f"{path} holds values that are no labels, whole numbers from 0 to 65535; give a mask.")
    return np.asarray(array, np.uint16)


def on_grid(
    labels: NDArray[np.uint16], affine: NDArray[np.float64], volume: Volume, path: str, whole: bool = False
) -> NDArray[np.uint16]:
    """Labels with an affine of their own, (slice, row, column) to RAS, on the voxels of ``volume``.

    Raises:
        InputError: when the voxels are not those of the study, labels lie outside of it, or (``whole``) the study has
            voxels that the labels do not cover.
    """
    other = f"{path} lies on another grid than the study or elsewhere in space; resample it onto the study first."
    if volume.affine is None or volume.positions is not None:
        raise InputError(
            f"{path} cannot be placed by its position, as the study has no even one; write it on the study."
        )
    step = np.linalg.solve(volume.affine, affine)
    turn = np.rint(step[:3, :3])
    sides = np.array(labels.shape)
    apart = np.abs(step[:3, :3] - turn) @ sides  # in voxels, at the far corner
    shift = np.rint(step[:3, 3])
    permuted = (np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all()
    if not permuted or apart.max() > 2 * NEAR or np.abs(step[:3, 3] - shift).max() > NEAR:
        raise InputError(other)
    corners = np.sort([shift, turn @ (sides - 1) + shift], axis=0)
    if whole and (corners[0].any() or (corners[1] + 1 != volume.shape).any()):
        raise InputError(f"{path} covers {labels.shape} voxels, the study has {volume.shape}; they differ, redraw it.")
    at = np.argwhere(labels)
    into = (at @ turn.T + shift).astype(np.int64)
    if len(at) and (into.min() < 0 or (into.max(axis=0) >= volume.shape).any()):
        raise InputError(f"{path} has labels outside of the study; it belongs to another.")
    placed = np.zeros(volume.shape, np.uint16)
    placed[tuple(into.T)] = labels[tuple(at.T)]
    return placed
