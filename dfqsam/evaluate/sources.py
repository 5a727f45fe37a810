"""Find out how a folder of patients' data is laid out, and list its samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dfqsam.errors import InputError
from dfqsam.evaluate import medseg
from dfqsam.evaluate.matching_volumes import is_volume
from dfqsam.evaluate.samples import Sample
from dfqsam.evaluate.sources_boxes import boxed
from dfqsam.evaluate.sources_decathlon import decathlon
from dfqsam.evaluate.sources_pictures import pictures
from dfqsam.evaluate.sources_volumes import LevelWidth, pairs

LAYOUTS = (
    "a manifest.csv, a dataset.json (MONAI, Decathlon, nnU-Net), or two folders images and masks "
    "with files of the same names (PNG, JPEG, TIFF, NIfTI, DICOM, NRRD or MetaImage)"
)


def open_data(
    path: Path,
    *,
    split: str = medseg.VALIDATION,
    boxes: Path | None = None,
    labels: Sequence[str] = (),
    slices: int | None = None,
    window: LevelWidth | None = None,
    series: int | None = None,
) -> list[Sample]:
    """The samples in a folder, in an order that only depends on names; those of one picture follow each other.

    Args:
        path: with a ``manifest.csv``; or a ``dataset.json`` or the folder that it is in; or with the folders
            ``images`` and ``masks``, of pictures or of volumes (NIfTI, DICOM, NRRD, MetaImage).
        split: of the ``manifest.csv``.
        boxes: a CSV file with the columns image, x0, y0, x1, y1 in place of reference masks.
        labels: keep these objects only.
        slices: of a volume and object at most so many, spread evenly; None for every slice with a mask.
        window: level and width for volumes; None for what the file says or suits the modality.
        series: of folders and archives with several series of DICOM files, from 1 on.

    Raises:
        InputError: for another layout, files that cannot be read or do not match, or when nothing is left.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder with {LAYOUTS}.")
    if boxes is not None:
        found = boxed(path, boxes)
    elif path.is_file() or (path / "dataset.json").is_file():
        found = decathlon(path if path.is_file() else path / "dataset.json", slices, window, series)
    elif (path / "manifest.csv").is_file():
        found = medseg.samples(path, split)
    elif (path / "images").is_dir() and (path / "masks").is_dir():
        volumes = any(is_volume(file) for file in (path / "images").rglob("*"))
        found = pairs(path, slices, window, series) if volumes else pictures(path)
    else:
        raise InputError(f"{path} is laid out in no way that is known; give a folder with {LAYOUTS}.")
    if labels:
        have = sorted({sample.label for sample in found})
        for label in labels:
            if label not in have:
                raise InputError(f"{path} has no object {label!r}; it has {', '.join(map(repr, have[:20]))}.")
        found = [sample for sample in found if sample.label in labels]
    if not found:
        raise InputError(f"{path} holds no object: every reference mask is empty.")
    return found
