"""What is needed of one DICOM instance, drawn from its dataset once and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.dicom.reading import Item, tolerant
from dfqsam.imaging.files import check_voxels
from dfqsam.imaging.window import Window

Vector = NDArray[np.float64]
TILED = "1.2.840.10008.5.1.4.1.1.77.1.6"
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420")
MAX_FRAMES = 1 << 16
CENTIMETRES = 3  # unit of an ultrasound region


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


def _printable(text: Any) -> str:
    return "".join(character for character in str(text or "") if character.isprintable())


def _floats(dataset: Any, keyword: str, count: int) -> Vector | None:
    value = dataset.get(keyword)
    if value is None or (hasattr(value, "__len__") and len(value) != count):
        return None
    try:
        numbers = np.asarray(value, np.float64).reshape(count)
    except (ValueError, TypeError):
        return None
    return numbers if np.isfinite(numbers).all() else None


def _number(dataset: Any, keyword: str) -> float | None:
    found = _floats(dataset, keyword, 1)
    return None if found is None else float(found[0])


def _windows(dataset: Any) -> tuple[Window, ...]:
    """The windows of a dataset; those that are not usable are left out."""

    def several(keyword: str) -> list[Any]:
        value = dataset.get(keyword)
        if value is None or value == "":
            return []
        return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]

    function: Any = dataset.get("VOILUTFunction") or "LINEAR"
    names = [_printable(name) for name in several("WindowCenterWidthExplanation")]
    found = []
    for index, (centre, width) in enumerate(zip(several("WindowCenter"), several("WindowWidth"), strict=False)):
        try:
            name = names[index] if index < len(names) else ""
            found.append(Window(float(centre), float(width), function, name[:40]))
        except (InputError, ValueError, TypeError):
            continue
    return tuple(found)


def _group(dataset: Any, frame: int, sequence: str) -> Any:
    """An item of the functional groups of an enhanced multi-frame, the frame's own before the shared one."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        if groups and (found := groups[0].get(sequence)):
            return found[0]
    return None


def _orientation(dataset: Any) -> tuple[Vector, Vector] | None:
    cosines = _floats(dataset, "ImageOrientationPatient", 6)
    if cosines is None:
        return None
    right, down = cosines[:3], cosines[3:]  # along a row, along a column
    lengths = np.linalg.norm(right), np.linalg.norm(down)
    if not np.allclose(lengths, 1, atol=0.01) or abs(right @ down) > 0.01:
        return None
    return right / lengths[0], down / lengths[1]


def _spacing(dataset: Any) -> tuple[tuple[float, float] | None, str]:
    """mm between rows and between columns, and a note where it is not that of the patient's plane."""
    for keyword, note in (
        ("PixelSpacing", ""),
        ("NominalScannedPixelSpacing", ""),
        ("ImagerPixelSpacing", "Sizes in mm are those at the detector; the patient is smaller by its magnification."),
    ):
        found = _floats(dataset, keyword, 2)
        if found is not None and (found > 0).all():
            return (float(found[0]), float(found[1])), note
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    steps = set()
    for region in regions:
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        if units == (CENTIMETRES, CENTIMETRES):
            steps.add((_number(region, "PhysicalDeltaY"), _number(region, "PhysicalDeltaX")))
    if len(steps) == 1:
        high, wide = steps.pop()
        if high and wide:
            return (abs(high) * 10, abs(wide) * 10), ""
    return None, ""


def _scale(dataset: Any) -> tuple[float, float]:
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    return (slope, intercept or 0.0) if slope else (1.0, intercept or 0.0)


def _frame(dataset: Any, number: int, enhanced: bool) -> tuple[Frame, str]:
    def part(sequence: str) -> Any:
        return (_group(dataset, number, sequence) or _empty()) if enhanced else dataset

    measures = part("PixelMeasuresSequence")
    spacing, note = _spacing(measures)
    if enhanced and spacing is None:
        spacing, note = _spacing(dataset)
    thickness = _number(measures, "SliceThickness")
    slope, intercept = _scale(part("PixelValueTransformationSequence"))
    frame = Frame(
        number,
        _floats(part("PlanePositionSequence"), "ImagePositionPatient", 3),
        _orientation(part("PlaneOrientationSequence")),
        spacing,
        thickness if thickness and thickness > 0 else None,
        slope,
        intercept,
        _windows(part("FrameVOILUTSequence")) or _windows(dataset),
    )
    return frame, note


def _empty() -> Any:
    """An empty dataset."""
    from pydicom.dataset import Dataset

    return Dataset()


def instance(item: Item, dataset: Any) -> Instance:
    """The instance that a dataset describes.

    Raises:
        InputError: for values that make no sense, more than 2^28 voxels, tiles of a slide, or an unknown colour.
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
        check_voxels(name, count, rows, columns, 3 if colour else 1)
        if count > MAX_FRAMES:
            raise InputError(f"{name} claims {count} frames; the limit is {MAX_FRAMES}.")
        enhanced = "SharedFunctionalGroupsSequence" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
        groups = dataset.get("PerFrameFunctionalGroupsSequence")
        if groups is not None and len(groups) != count:
            raise InputError(f"{name} claims {count} frames and describes {len(groups)}; export it again.")
        if enhanced or count == 1:
            made = [_frame(dataset, number, enhanced) for number in range(count)]
            frames, notes = tuple(frame for frame, _ in made), tuple(sorted({note for _, note in made if note}))
        else:
            first, note = _frame(dataset, 0, False)  # frames of time: one position says nothing about the others
            bare = {"position": None, "orientation": None}
            frames = tuple(Frame(**{**first.__dict__, **bare, "number": number}) for number in range(count))
            notes = (note,) if note else ()
        if dataset.get("VOILUTSequence") and not frames[0].windows:
            notes = (*notes, "The file's own table of grey levels is not used; the window is set by percentiles.")
        return Instance(
            item,
            dataset,
            str(dataset.get("SeriesInstanceUID") or ""),
            int(dataset.get("SeriesNumber") or 0),
            str(dataset.get("SOPInstanceUID") or ""),
            (int(dataset.get("AcquisitionNumber") or 0), int(dataset.get("InstanceNumber") or 0)),
            _printable(dataset.get("Modality"))[:16],
            str(dataset.file_meta.TransferSyntaxUID),
            rows,
            columns,
            colour,
            photometric == "MONOCHROME1",
            frames,
            notes,
        )
