"""Masks as files to download: made in a folder that lives in memory where the system has one, and removed at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqsam.imaging import View, Volume, write_mask, write_study_mask
from dfqsam.imaging.volume import DicomSource

MEMORY = Path("/dev/shm")
KINDS = {
    "DICOM SEG": ("mask.dcm", "application/dicom"),
    "NIfTI": ("mask.nii.gz", "application/gzip"),
    "PNG of this slice": ("mask.png", "image/png"),
}


def kinds(volume: Volume) -> list[str]:
    """The formats that can hold a mask of ``volume``, the study's own first."""
    dicom = isinstance(volume.source, DicomSource)
    even = volume.affine is not None and volume.positions is None
    chosen = ["DICOM SEG"] if dicom and volume.affine is not None else []
    return [*chosen, *(["NIfTI"] if even else []), "PNG of this slice"]


def labelled(volume: Volume, view: View, slices: Mapping[int, Sequence[NDArray[np.bool_]]]) -> NDArray[np.uint8]:
    """Masks of objects on slices of ``view`` as one S x R x C volume: the first object of each slice is label 1, and
    so on; where two overlap, the later counts."""
    mask = volume.empty_mask()
    for k, objects in slices.items():
        for label, drawn in enumerate(objects, start=1):
            volume.put(mask, k, view, drawn, label)
    return mask


def file_bytes(
    kind: str, volume: Volume, view: View, slices: Mapping[int, Sequence[NDArray[np.bool_]]], shown: int
) -> bytes:
    """The file of the format ``kind``, one of :data:`KINDS`.

    Args:
        slices: for each slice with objects their masks, H x W as ``view`` shows it.
        shown: the slice that a PNG is of: 255 where any of its objects is, as the picture is shown.

    Raises:
        InputError: for a geometry that the format cannot say.
    """
    name, _ = KINDS[kind]
    memory = MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dfqsam-", dir=memory) as folder:
        path = Path(folder, name)
        if kind.startswith("PNG"):
            objects = slices.get(shown) or [np.zeros(view.shape, bool)]
            write_mask(path, np.logical_or.reduce(objects))
        else:
            write_study_mask(path, volume, labelled(volume, view, slices))
        return path.read_bytes()
