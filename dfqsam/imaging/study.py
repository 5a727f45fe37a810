"""One way in: whatever a study is kept as, told by its content and not by its name."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Literal

from dfqsam.errors import InputError
from dfqsam.imaging import headers
from dfqsam.imaging.archive import ZIP, archive, member
from dfqsam.imaging.dicom.reading import Item, is_dicom, walk
from dfqsam.imaging.dicom.series import Series, list_series, read_series
from dfqsam.imaging.files import opened
from dfqsam.imaging.nifti import GZIP, is_nifti, read_nifti, unpacked_head
from dfqsam.imaging.raster import read_pages
from dfqsam.imaging.volume import Volume

Kind = Literal["nifti", "dicom", "picture", "zip", "folder"]

# What other formats begin with, and what to say.
_KNOWN = {
    b"NRRD": "an NRRD volume",
    b"ObjectType": "a MetaImage volume",
    b"NDims": "a MetaImage volume",
    b"\x89HDF": "an HDF5 or MINC volume",
    b"%PDF": "a PDF document",
    b"BM": "a BMP picture",
    b"GIF8": "a GIF picture",
}


def sniff(path: str | Path) -> Kind | None:
    """What kind of study a file or folder is, by its first bytes; None for anything else.

    Raises:
        InputError: when it is not there, empty or not readable.
    """
    path = Path(path)
    if path.is_dir():
        return "folder"
    with opened(path) as file:
        head = file.read(headers.ENOUGH)
        if headers.kind(head):
            return "picture"
        if is_dicom(head):
            return "dicom"
        if head.startswith(ZIP):
            return "zip"
        return "nifti" if is_nifti(unpacked_head(file)) else None


def _unknown(path: Path) -> InputError:
    with opened(path) as file:
        head = file.read(headers.ENOUGH)
    if head.startswith(GZIP):
        return InputError(f"{path} is packed with gzip, and what is in it is no NIfTI volume (or damaged); unpack it.")
    for start, what in _KNOWN.items():
        if head.startswith(start):
            return InputError(f"{path} is {what}; convert it to NIfTI, DICOM or PNG first.")
    return InputError(f"{path} is no NIfTI, DICOM, PNG, JPEG or TIFF file, whatever its name says; convert it first.")


def _members(packed: zipfile.ZipFile) -> list[Item]:
    def item(info: zipfile.ZipInfo, name: str) -> Item:
        return Item(name, lambda: member(packed, info))

    found = [info for info in packed.infolist() if info.filename and info.file_size]
    named = [(info, PurePosixPath(info.filename).name) for info in found]
    return [
        item(info, name)
        for info, name in named
        if not (info.is_dir() or name.startswith((".", "DICOMDIR")) or info.filename.startswith("__MACOSX"))
    ]


def study_series(path: str | Path) -> list[Series]:
    """The series in a folder or a zip archive of DICOM files, in the order that ``open_study`` counts them.

    Raises:
        InputError: when there are none.
    """
    path = Path(path)
    if path.is_dir():
        return list_series(walk(path), path)
    with archive(path) as packed:
        return list_series(_members(packed), path)


def open_study(path: str | Path, series: int | None = None, volume: int | None = None) -> Volume:
    """The study at ``path``: a NIfTI file, a DICOM file, a folder or zip archive of a DICOM series, or a picture.

    Args:
        path: a file (told by its content, whatever its name) or a folder (searched to the bottom).
        series: which series of a folder or archive, counted from 1 on; needed where there are several.
        volume: which volume of a NIfTI file or a DICOM series with several (time points, echoes), from 0 on.

    Raises:
        InputError: one sentence, for anything that is missing, damaged, too large (told from headers, before a voxel
            is read), of another kind, or not clear.
    """
    path = Path(path)
    kind = sniff(path)
    if series is not None and kind not in ("zip", "folder"):
        raise InputError(f"{path} is one file, which has no series to choose from; leave the series out.")
    if kind == "folder":
        return read_series(walk(path), path, series, volume)
    if kind == "dicom":
        return read_series([Item(str(path), lambda: opened(path))], path, volume=volume, alone=True)
    if kind == "zip":
        with archive(path) as packed:
            return read_series(_members(packed), path, series, volume)
    if kind == "nifti":
        with opened(path) as file:
            return read_nifti(file, path, volume)
    if kind == "picture":
        return Volume(read_pages(path))
    raise _unknown(path)
