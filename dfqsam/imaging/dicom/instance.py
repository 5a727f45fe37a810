"""What is needed of one DICOM instance, drawn from its dataset once and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dfqsam.errors import InputError
from dfqsam.imaging.dicom import elements
from dfqsam.imaging.dicom.elements import Vector
from dfqsam.imaging.dicom.reading import Item, tolerant
from dfqsam.imaging.files import check_pixels, check_voxels
from dfqsam.imaging.window import Window

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}  # transfer syntaxes, uncompressed
TILED = "1.2.840.10008.5.1.4.1.1.77.1.6"
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420")
MAX_FRAMES = 1 << 16


@dataclass(frozen=True)
class Frame:
    """Geometry and scaling of one frame; None where the file does not say. mm, in DICOM's patient space (LPS)."""

    number: int
    position: Vector | None
    orientation: tuple[Vector, Vector] | None
    spacing: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Instance:
    """One DICOM file with pixels."""

    item: Item
    dataset: Any
    series: str
    series_number: int
    uid: str
    order: tuple[int, int]
    modality: str
    syntax: str
    rows: int
    columns: int
    colour: bool
    inverted: bool
    frames: tuple[Frame, ...]
    notes: tuple[str, ...] = ()

    @property
    def voxels(self) -> int:
        """Values of all frames."""
        return self.rows * self.columns * len(self.frames) * (3 if self.colour else 1)


def has_picture(dataset: Any, name: str) -> bool:
    """Whether the dataset is that of pictures: not a report, a plan, a presentation state or a segmentation.

    Raises:
        InputError: when it should be, and has no size.
    """
    from pydicom.uid import UID

    if dataset.get("Modality") == "SEG":
        return False
    if dataset.get("Rows") is not None and dataset.get("Columns") is not None:
        return True
    kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    if not kind or "Image Storage" in UID(str(kind)).name:
        raise InputError(f"{name} is cut short: it ends before the size of its picture; export it again.")
    return False


def _frame(dataset: Any, number: int, enhanced: bool) -> tuple[Frame, str]:
    def part(sequence: str) -> Any:
        return (elements.group(dataset, number, sequence) or elements.empty()) if enhanced else dataset

    measures = part("PixelMeasuresSequence")
    spacing, note = elements.spacing(measures)
    if enhanced and spacing is None:
        spacing, note = elements.spacing(dataset)
    thickness = elements.number(measures, "SliceThickness")
    slope, intercept = elements.scale(part("PixelValueTransformationSequence"))
    frame = Frame(
        number,
        elements.floats(part("PlanePositionSequence"), "ImagePositionPatient", 3),
        elements.orientation(part("PlaneOrientationSequence")),
        spacing,
        thickness if thickness and thickness > 0 else None,
        slope,
        intercept,
        elements.windows(part("FrameVOILUTSequence")) or elements.windows(dataset),
    )
    return frame, note


def _least_bytes(dataset: Any, frames: int) -> int:
    """Bytes that the pixels take at the very least, from the header."""
    if str(dataset.file_meta.TransferSyntaxUID) not in NATIVE:
        return 8 * frames  # each frame of a compressed one is an item with a header
    samples = int(dataset.get("SamplesPerPixel") or 1)
    bits = int(dataset.get("BitsAllocated") or 8)
    if str(dataset.get("PhotometricInterpretation")) == "YBR_FULL_422":
        samples = 2
    return int(dataset.Rows) * int(dataset.Columns) * frames * samples * bits // 8


def instance(item: Item, dataset: Any, size: int) -> Instance:
    """The instance that a dataset describes.

    Args:
        size: of the file, bytes.

    Raises:
        InputError: for values that make no sense, more than 2^28 voxels, more than the file can hold, tiles of a slide,
            or an unknown colour.
    """
    name = item.name
    with tolerant(name):
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        count = int(dataset.get("NumberOfFrames") or 1)
        samples = int(dataset.get("SamplesPerPixel") or 1)
        photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
        if min(rows, columns, count) < 1:
            raise InputError(f"{name} claims {count} frames of {columns} x {rows} pixels; export it again.")
        if str(dataset.get("SOPClassUID")) == TILED:
            raise InputError(f"{name} holds the tiles of a whole slide; export a region of it as a picture.")
        colour = photometric not in MONOCHROME
        if photometric not in (*MONOCHROME, *COLOUR) or samples not in (1, 3) or (samples == 3 and not colour):
            raise InputError(
                f"{name} has {samples} samples of the kind {photometric[:32]!r}, which is no known picture."
            )
        check_pixels(name, count, rows, columns)
        check_voxels(name, count, rows, columns, 3 if colour else 1)
        if count > MAX_FRAMES:
            raise InputError(f"{name} claims {count} frames; the limit is {MAX_FRAMES}.")
        enhanced = "SharedFunctionalGroupsSequence" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
        groups = dataset.get("PerFrameFunctionalGroupsSequence")
        if groups is not None and len(groups) != count:
            raise InputError(f"{name} claims {count} frames and describes {len(groups)}; export it again.")
        if size < (least := _least_bytes(dataset, count)):
            raise InputError(f"{name} is cut short: {size} bytes cannot hold pixels of {least}; export it again.")
        if enhanced or count == 1:
            made = [_frame(dataset, number, enhanced) for number in range(count)]
            frames, notes = tuple(frame for frame, _ in made), tuple(sorted({note for _, note in made if note}))
        else:
            first, note = _frame(dataset, 0, False)  # frames of time: one position says nothing about the others
            bare = {"position": None, "orientation": None}
            frames = tuple(Frame(**{**first.__dict__, **bare, "number": number}) for number in range(count))
            notes = (note,) if note else ()
        tables, spoilt = ((), False) if colour else elements.tables(dataset)
        if tables:  # what the maker of the device meant the picture to look like comes first
            frames = tuple(replace(frame, windows=(*tables, *frame.windows)) for frame in frames)
        if spoilt:
            notes = (*notes, "A table of grey levels of the file makes no sense and is not used.")
        return Instance(
            item,
            dataset,
            str(dataset.get("SeriesInstanceUID") or ""),
            int(dataset.get("SeriesNumber") or 0),
            str(dataset.get("SOPInstanceUID") or ""),
            (int(dataset.get("AcquisitionNumber") or 0), int(dataset.get("InstanceNumber") or 0)),
            elements.printable(dataset.get("Modality"))[:16],
            str(dataset.file_meta.TransferSyntaxUID),
            rows,
            columns,
            colour,
            photometric == "MONOCHROME1",
            frames,
            notes,
        )
