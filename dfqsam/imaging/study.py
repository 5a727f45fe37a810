"""One way in: whatever a study is kept as, told by its content and not by its name."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from dfqsam.errors import InputError
from dfqsam.imaging import headers
from dfqsam.imaging.archive import ZIP, archive, member
from dfqsam.imaging.dicom.reading import Item, is_dicom, walk
from dfqsam.imaging.dicom.series import Series, list_series, read_series
from dfqsam.imaging.files import opened
from dfqsam.imaging.itk.header import kind_by_head
from dfqsam.imaging.itk.reading import read_itk
from dfqsam.imaging.nifti import GZIP, is_nifti, read_nifti, unpacked_head
from dfqsam.imaging.raster import read_pages
from dfqsam.imaging.volume import Volume

Kind = Literal["nifti", "dicom", "itk", "picture", "zip", "folder"]

# What other formats begin with, and what to say.
_KNOWN = {
    b"\x89HDF": "an HDF5 or MINC volume",
    b"%PDF": "a PDF document",
    b"BM": "a BMP picture",
    b"GIF8": "a GIF picture",
}


def kind_of(file: BinaryIO) -> Kind | None:
    """:func:`sniff` of an open file."""
    head = file.read(headers.ENOUGH)
    if headers.kind(head):
        return "picture"
    if is_dicom(head):
        return "dicom"
    if head.startswith(ZIP):
        return "zip"
    if kind_by_head(head):
        return "itk"
    return "nifti" if is_nifti(unpacked_head(file)) else None


def sniff(path: str | Path) -> Kind | None:
    """What kind of study a file or folder is, by its first bytes; None for anything else.

    Raises:
        InputError: when it is not there, empty or not readable.
    """
    path = Path(path)
    if path.is_dir():
        return "folder"
    with opened(path) as file:
        return kind_of(file)


def _unknown(file: BinaryIO, name: str) -> InputError:
    file.seek(0)
    head = file.read(headers.ENOUGH)
    if not head:
        return InputError(f"{name} is empty (0 bytes); export it again.")
    if head.startswith(GZIP):
        return InputError(f"{name} is packed with gzip, and what is in it is no NIfTI volume (or damaged); unpack it.")
    for start, what in _KNOWN.items():
        if head.startswith(start):
            return InputError(f"{name} is {what}; convert it to NIfTI, DICOM or PNG first.")
    return InputError(
        f"{name} is no NIfTI, DICOM, NRRD, MetaImage, PNG, JPEG or TIFF file, whatever its name says; convert it first."
    )


def _members(packed: zipfile.ZipFile, archive_name: str) -> list[Item]:
    def item(info: zipfile.ZipInfo, name: str) -> Item:
        return Item(name, lambda: member(packed, info, archive_name))

    found = [info for info in packed.infolist() if info.filename and info.file_size]
    named = [(info, PurePosixPath(info.filename).name) for info in found]
    return [
        item(info, name)
        for info, name in named
        if not (info.is_dir() or name.startswith((".", "DICOMDIR")) or info.filename.startswith("__MACOSX"))
    ]


def open_item(item: Item, series: int | None = None, volume: int | None = None) -> Volume:
    """:func:`open_study` of one file, wherever it is kept.

    Raises:
        InputError: as :func:`open_study`.
    """
    name = item.name
    with item.open() as file:
        kind = kind_of(file)
        if series is not None and kind != "zip":
            raise InputError(f"{name} is one file, which has no series to choose from; leave the series out.")
        if kind is None:
            raise _unknown(file, name)
        file.seek(0)
        if kind == "zip":
            with archive(file, name) as packed:
                return read_series(_members(packed, name), name, series, volume)
        if kind == "nifti":
            return read_nifti(file, name, volume)
        if kind == "itk":
            return read_itk(file, name, item.folder, volume)
        if kind == "picture":
            return Volume(read_pages(file, name))
    return read_series([item], name, volume=volume, alone=True)


def _series(item: Item) -> list[Series]:
    with item.open() as file:
        if kind_of(file) != "zip":
            return list_series([item], item.name)
        with archive(file, item.name) as packed:
            return list_series(_members(packed, item.name), item.name)


def open_study(path: str | Path, series: int | None = None, volume: int | None = None) -> Volume:
    """The study at ``path``: a NIfTI, NRRD, MetaImage or DICOM file, a folder or zip archive of a DICOM
    series, or a picture.

    Args:
        path: a file (told by its content, whatever its name) or a folder (searched to the bottom).
        series: which series of a folder or archive, counted from 1 on; needed where there are several.
        volume: which volume of a file or a DICOM series with several (time points, echoes), from 0 on.

    Raises:
        InputError: one sentence, for anything that is missing, damaged, too large (told from headers, before a voxel
            is read), of another kind, or not clear.
    """
    path = Path(path)
    if path.is_dir():
        return read_series(walk(path), str(path), series, volume)
    return open_item(Item(str(path), lambda: opened(path), path.parent), series, volume)


def study_series(path: str | Path) -> list[Series]:
    """The series in a folder, a zip archive or a file of DICOM, in the order that ``open_study`` counts them.

    Raises:
        InputError: when there are none.
    """
    path = Path(path)
    return list_series(walk(path), str(path)) if path.is_dir() else _series(Item(str(path), lambda: opened(path)))


def _items(files: Mapping[str, bytes]) -> list[Item]:
    if not files:
        raise InputError("No file was given; give a study.")
    return [Item(name, lambda data=data: io.BytesIO(data)) for name, data in files.items()]


def open_uploads(files: Mapping[str, bytes], series: int | None = None, volume: int | None = None) -> Volume:
    """:func:`open_study` of files that are in memory, by their names; nothing is written to a disk.

    Args:
        files: one file of any kind, or the files of DICOM series.
        series: as :func:`open_study`.
        volume: as :func:`open_study`.

    Raises:
        InputError: as :func:`open_study`.
    """
    items = _items(files)
    return open_item(items[0], series, volume) if len(items) == 1 else read_series(items, "The upload", series, volume)


def upload_series(files: Mapping[str, bytes]) -> list[Series]:
    """:func:`study_series` of files that are in memory.

    Raises:
        InputError: when there are none.
    """
    items = _items(files)
    return _series(items[0]) if len(items) == 1 else list_series(items, "The upload")
