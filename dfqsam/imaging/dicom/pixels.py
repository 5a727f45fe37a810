"""Pixels of DICOM instances as numbers in the units of the file."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.dicom.instance import NATIVE, Frame, Instance
from dfqsam.imaging.dicom.reading import read_dataset, tolerant
from dfqsam.imaging.dicom.worker import Worker
from dfqsam.imaging.headers import DamagedError, codestream_size

RLE = "1.2.840.10008.1.2.5"
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Of the image pixel module (PS3.3 C.7.6.3): all that a decoder looks at, and nothing that names a patient.
DESCRIPTION = (
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "PlanarConfiguration", "NumberOfFrames"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
)


def _described(dataset: Any) -> bytes:
    """The pixels and their description alone, as a DICOM file."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    small = Dataset()
    for keyword in DESCRIPTION:
        if keyword in dataset:
            small[keyword] = dataset[keyword]
    small.file_meta = FileMetaDataset()
    small.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    small.file_meta.MediaStorageSOPClassUID = small.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")  # no one's
    small.preamble = b"\0" * 128
    out = io.BytesIO()
    small.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _check_codestreams(made: Instance, dataset: Any) -> None:
    """Refuse a compressed frame whose own header, which decoders believe, names another size than the DICOM header."""
    from pydicom.encaps import generate_frames

    extra = {}
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        extra["extended_offsets"] = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    count = 0
    for frame in generate_frames(dataset.PixelData, number_of_frames=len(made.frames), **extra):
        count += 1
        if made.syntax == RLE:
            continue
        try:
            size = codestream_size(frame)
        except (DamagedError, struct.error) as error:
            raise InputError(f"{made.item.name} holds a damaged compressed picture; export it again.") from error
        if size != (made.rows, made.columns):
            raise InputError(
                f"{made.item.name} names {made.columns} x {made.rows} pixels and holds {size[1]} x {size[0]}; "
                "export it again."
            )
    if count != len(made.frames):
        raise InputError(f"{made.item.name} names {len(made.frames)} frames and holds {count}; export it again.")


def _decoded(made: Instance, dataset: Any, worker: Worker) -> Iterator[NDArray[Any]]:
    if made.syntax in NATIVE:
        from pydicom.pixels.utils import iter_pixels

        for frame in iter_pixels(dataset):
            yield _resolved(frame, dataset)
        return
    _check_codestreams(made, dataset)
    for frame in worker.decode(_described(dataset), made.item.name, len(made.frames), made.rows * made.columns):
        yield _resolved(frame, dataset)


def _resolved(frame: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """A palette's colours in place of its indices."""
    if str(dataset.get("PhotometricInterpretation")) != "PALETTE COLOR":
        return frame
    from pydicom.pixels.processing import apply_color_lut

    return apply_color_lut(frame, dataset)[..., :3]


def _eight_bits(frame: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """RGB of any depth as 8 bits; a palette has 16 bits whatever its indices have."""
    return (
        frame.astype(np.uint8, copy=False)
        if frame.dtype.itemsize == 1
        else (frame >> max(0, bits - 8)).astype(np.uint8)
    )


def _modality(frame: NDArray[Any], made: Frame, dataset: Any) -> NDArray[Any]:
    """Stored values through the modality's table or line: whole numbers stay whole where the line has whole terms."""
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        return np.asarray(apply_modality_lut(frame, dataset))
    if frame.dtype.kind == "f" or made.slope != 1 or made.intercept != int(made.intercept):
        with np.errstate(over="ignore", invalid="ignore"):
            return frame.astype(np.float32) * np.float32(made.slope) + np.float32(made.intercept)
    if not made.intercept:
        return frame
    if abs(made.intercept) >= 1 << 30 or frame.dtype.itemsize > 2:
        return frame.astype(np.float32) + np.float32(made.intercept)
    whole = frame.astype(np.int32) + np.int32(made.intercept)
    # The range of the stored kind, not of the values, so that all slices of a series become the same kind.
    bits = int(dataset.get("BitsStored") or 16)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if frame.dtype.kind == "i" else (0, (1 << bits) - 1)
    fits = low + made.intercept >= -(1 << 15) and high + made.intercept < 1 << 15
    return whole.astype(np.int16) if fits else whole


def frames_of(made: Instance, worker: Worker) -> Iterator[NDArray[Any]]:
    """Every frame of an instance, in order: R x C numbers, or R x C x 3 uint8.

    Raises:
        InputError: when pixels are damaged, missing or not of the size that the header names.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    name = made.item.name
    with made.item.open() as file:
        dataset = read_dataset(file, name, pixels=True)
    with tolerant(name, "decoded"):
        if not any(keyword in dataset for keyword in PIXEL_KEYWORDS):
            raise InputError(f"{name} is cut short: it has no pixels; export it again.")
        try:
            get_decoder(UID(made.syntax))
        except NotImplementedError as error:
            kind = UID(made.syntax).name[:80]
            raise InputError(f"{name} is encoded as {kind!r}, which is not read; export it uncompressed.") from error
        depth = 16 if "RedPaletteColorLookupTableDescriptor" in dataset else int(dataset.get("BitsStored") or 8)
        count = 0
        for frame, geometry in zip(_decoded(made, dataset, worker), made.frames, strict=False):
            if frame.shape != (made.rows, made.columns, *((3,) if made.colour else ())):
                raise InputError(f"{name} decodes to the shape {frame.shape}; export it again.")
            count += 1
            yield _eight_bits(frame, depth) if made.colour else _modality(frame, geometry, dataset)
        if count != len(made.frames):
            raise InputError(f"{name} is cut short: {count} of {len(made.frames)} frames; export it again.")
