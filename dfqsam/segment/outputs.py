"""Masks of studies as files: under which name, in which format, and with the labels' names."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dfqsam.errors import InputError
from dfqsam.imaging import Volume, write_study_mask
from dfqsam.imaging.files import write_whole
from dfqsam.imaging.masks import ENDINGS
from dfqsam.imaging.volume import DicomSource, ItkSource, NiftiSource
from dfqsam.segment.found import Segmentation

# Longest first: what a study's name may end in, and what its mask's name does not repeat.
STUDY_ENDINGS = (
    *(".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".dicom"),
    *(".zip", ".png", ".jpg", ".jpeg", ".tif", ".tiff"),
)


def stem(name: str) -> str:
    """The name of a study without its ending: ``scan.nii.gz`` is ``scan``."""
    for ending in STUDY_ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return name


def ending_for(volume: Volume) -> str:
    """The ending of a mask that is kept as its study is: .nii.gz, .dcm (DICOM SEG), .png, or .json (COCO) for a picture
    of several pages."""
    if isinstance(volume.source, NiftiSource | ItkSource):
        return ".nii.gz"
    if isinstance(volume.source, DicomSource):
        return ".dcm"
    return ".png" if volume.shape[0] == 1 else ".json"


def check_output(path: Path, endings: tuple[str, ...] = ENDINGS) -> None:
    """Raises:
    InputError: when a file of this name cannot be written, told before the work that leads to it.
    """
    if not path.name.lower().endswith(endings):
        raise InputError(f"The file {path} must be named {', '.join(endings)}.")
    if path.is_dir():
        raise InputError(f"{path} is a directory; give the name of a file.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no directory {path.parent}; make it first.")


def write_segmentation(path: Path, found: Segmentation) -> None:
    """Write the mask as :func:`dfqsam.imaging.write_study_mask` does; a PNG of other labels than 1 holds their numbers.

    Raises:
        InputError: as that function.
    """
    names = {label: name or f"label {label}" for label, name in found.names.items()}
    if path.name.lower().endswith(".png") and found.volume.shape[0] == 1 and max(found.names) > 1:
        _, data = cv2.imencode(".png", np.ascontiguousarray(found.mask[0]))
        write_whole(path, data.tobytes())
        return
    write_study_mask(path, found.volume, found.mask, names)


def volumes_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A row for every object of every study: study, label, name, voxels, ml (empty where unknown), mask, and
    covered_voxels, which are written as later objects."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study", "label", "name", "voxels", "ml", "mask", "covered_voxels"])
    for record in records:
        for one in record["labels"]:
            ml = "" if one["ml"] is None else one["ml"]
            row = [record["study"], one["label"], one["name"], one["voxels"], ml, record["mask"]]
            writer.writerow([*row, one["covered_voxels"]])
    return text.getvalue().encode()
