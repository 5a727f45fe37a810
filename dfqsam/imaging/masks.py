"""Masks out of the house: the format by the name's ending, each lying exactly on the study it was drawn on."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.coco import write_coco
from dfqsam.imaging.dicom.segmentation import Segment, segmentation_bytes
from dfqsam.imaging.files import write_whole
from dfqsam.imaging.nifti_mask import nifti_bytes
from dfqsam.imaging.raster import write_mask
from dfqsam.imaging.volume import Volume
from dfqsam.progress import stage

ENDINGS = (".nii", ".nii.gz", ".dcm", ".json", ".png")
MAX_LABEL = 65_535


def _labels(volume: Volume, mask: ArrayLike) -> NDArray[Any]:
    array = np.asarray(mask)
    if array.shape != volume.shape:
        raise InputError(f"The mask has shape {array.shape}; the volume has {volume.shape} (slices, rows, columns).")
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu" or int(array.min()) < 0 or int(array.max()) > MAX_LABEL:
        raise InputError(f"The mask holds {array.dtype}; give labels, whole numbers from 0 to {MAX_LABEL}.")
    return array


def write_study_mask(
    path: str | Path, volume: Volume, mask: ArrayLike, segments: Mapping[int, str | Segment] | None = None
) -> None:
    """Write a mask where and as its name says: .nii, .nii.gz, .dcm (DICOM SEG), .json (COCO) or .png (one slice).

    A DICOM SEG carries the identifiers of its study, as the standard wants it; the others carry none.

    Args:
        path: of the file; one that is there is replaced.
        volume: what the mask was drawn on.
        mask: S x R x C of bool or labels (0 is outside).
        segments: names of labels, or segments with coded concepts for DICOM SEG; without one, ``label N``.

    Raises:
        InputError: for another ending, a mask of another shape or kind, or a geometry that the format cannot say.
    """
    path = Path(path)
    array = _labels(volume, mask)
    lower = path.name.lower()
    named = {label: Segment(one) if isinstance(one, str) else one for label, one in (segments or {}).items()}
    if lower.endswith((".nii", ".nii.gz")):
        with stage(f"writing {path.name}"):
            data = nifti_bytes(array, volume, path)
            write_whole(path, gzip.compress(data, 6, mtime=0) if lower.endswith(".gz") else data)
    elif lower.endswith(".dcm"):
        missing = {int(label): Segment(f"label {label}") for label in np.unique(array) if label}
        with stage(f"writing {path.name}"):
            write_whole(path, segmentation_bytes(array, volume, {**missing, **named}))
    elif lower.endswith(".json"):
        write_coco(path, volume, array, {label: one.name for label, one in named.items()})
    elif lower.endswith(".png"):
        if volume.shape[0] != 1:
            raise InputError(f"{path} cannot hold {volume.shape[0]} slices; write {', '.join(ENDINGS[:4])}.")
        write_mask(path, array[0])
    else:
        raise InputError(f"The mask {path} must be named {', '.join(ENDINGS)}.")
