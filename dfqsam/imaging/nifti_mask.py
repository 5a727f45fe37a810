"""Masks as NIfTI, on the header of the volume they were drawn on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.extra import studies
from dfqsam.imaging.quiet import unlogged
from dfqsam.imaging.volume import NiftiSource, Volume


def nifti_bytes(mask: NDArray[Any], volume: Volume, name: Path) -> bytes:
    """A mask (S x R x C, labels from 0 on) as the bytes of an unpacked NIfTI file that lies exactly on ``volume``.

    From a NIfTI volume, the header's both transforms and codes, voxel sizes and units are kept bit for bit; texts and
    extensions, which may name a patient, are not.

    Raises:
        InputError: when the volume has no even geometry to write.
    """
    nibabel = studies("nibabel")
    labels = mask.astype(np.uint8 if int(mask.max(initial=0)) < 256 else np.uint16)
    data = labels.transpose(2, 1, 0)
    if isinstance(volume.source, NiftiSource):
        header = volume.source.header.copy()
        data = data.reshape(volume.source.shape, order="F")
    else:
        header = _new_header(volume, name)
    second = isinstance(header, nibabel.Nifti2Header)
    for text in ("descrip", "aux_file", "db_name", "data_type", "intent_name"):
        if text in header:
            header[text] = b""
    for number in ("cal_min", "cal_max", "intent_p1", "intent_p2", "intent_p3"):
        header[number] = 0
    header["intent_code"] = 1002  # NIFTI_INTENT_LABEL
    header["vox_offset"] = 0  # nibabel sets it as it writes
    written = io.BytesIO()
    try:
        with unlogged("nibabel.global"), np.errstate(all="ignore"):
            image = (nibabel.Nifti2Image if second else nibabel.Nifti1Image)(data, None, header, dtype=labels.dtype)
            image.header.set_slope_inter(1, 0)
            image.to_file_map({"image": nibabel.FileHolder(fileobj=written)})
    except (studies("nibabel.spatialimages").HeaderDataError, ValueError, OverflowError, KeyError) as error:
        raise InputError(f"{name} cannot be written: the volume's header makes no sense; export it again.") from error
    return written.getvalue()


def _new_header(volume: Volume, name: Path) -> Any:
    nibabel = studies("nibabel")
    if volume.positions is not None:
        raise InputError(
            f"{name} cannot be written as NIfTI: the steps between slices differ, which NIfTI cannot say; "
            "write DICOM SEG (.dcm)."
        )
    if volume.spacing is None:
        raise InputError(f"{name} cannot be written as NIfTI: the picture has no size in mm; write PNG or COCO JSON.")
    header = nibabel.Nifti1Header()
    header.set_data_shape(tuple(reversed(volume.shape)))
    header.set_xyzt_units("mm")
    header["pixdim"][1:4] = [volume.spacing[2], volume.spacing[1], volume.spacing[0] or 1.0]
    if volume.affine is not None:
        affine = volume.affine[:, [2, 1, 0, 3]]
        header.set_sform(affine, 1)
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        if np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):  # a qform cannot say a sheared volume
            header.set_qform(affine, 1)
    return header
