"""Values of DICOM elements, checked: what is missing or makes no sense is None."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.window import TableWindow, Window

Vector = NDArray[np.float64]
CENTIMETRES = 3  # unit of an ultrasound region


def printable(text: Any) -> str:
    """The text without control characters; empty for nothing."""
    return "".join(character for character in str(text or "") if character.isprintable())


def floats(dataset: Any, keyword: str, count: int) -> Vector | None:
    """``count`` finite numbers of an element."""
    value = dataset.get(keyword)
    if value is None or (hasattr(value, "__len__") and len(value) != count):
        return None
    try:
        numbers = np.asarray(value, np.float64).reshape(count)
    except (ValueError, TypeError):
        return None
    return numbers if np.isfinite(numbers).all() else None


def number(dataset: Any, keyword: str) -> float | None:
    """The one finite number of an element."""
    found = floats(dataset, keyword, 1)
    return None if found is None else float(found[0])


def windows(dataset: Any) -> tuple[Window, ...]:
    """The windows of a dataset; those that are not usable are left out."""

    def several(keyword: str) -> list[Any]:
        value = dataset.get(keyword)
        if value is None or value == "":
            return []
        return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]

    function: Any = dataset.get("VOILUTFunction") or "LINEAR"
    names = [printable(name) for name in several("WindowCenterWidthExplanation")]
    found = []
    for index, (centre, width) in enumerate(zip(several("WindowCenter"), several("WindowWidth"), strict=False)):
        try:
            name = names[index] if index < len(names) else ""
            found.append(Window(float(centre), float(width), function, name[:40]))
        except (InputError, ValueError, TypeError):
            continue
    return tuple(found)


def tables(dataset: Any) -> tuple[tuple[TableWindow, ...], bool]:
    """The tables of grey levels (VOI LUT) of a dataset, and whether there are others that are not usable."""
    # A first value above 32767 is a negative one where values can be negative (PS3.3 C.11.2.1.1).
    signed = bool(dataset.get("PixelRepresentation")) or (number(dataset, "RescaleIntercept") or 0.0) < 0
    found, spoilt = [], False
    for item in dataset.get("VOILUTSequence") or []:
        try:
            count, first, bits = (int(value) for value in item.LUTDescriptor)
            first = first - (1 << 16) if signed and first >= 1 << 15 else first
            entries = _entries(item.LUTData, count or 1 << 16, dataset.is_little_endian)
            found.append(TableWindow.of(first, entries, bits, printable(item.get("LUTExplanation"))[:40]))
        except (InputError, AttributeError, ValueError, TypeError, OverflowError):
            spoilt = True
    return tuple(found), spoilt


def _entries(data: Any, count: int, little: bool | None) -> NDArray[np.int64]:
    """``count`` entries of a table, kept as numbers, or as bytes with one or two to an entry."""
    if isinstance(data, bytes):
        order = ">" if little is False else "<"
        wide = len(data) >= 2 * count
        data = np.frombuffer(data, f"{order}u2" if wide else "u1", count)
    entries = np.asarray(data, np.int64).reshape(-1)
    if entries.size != count:
        raise ValueError(f"{entries.size} entries in place of {count}")
    return entries & 0xFFFF


def group(dataset: Any, frame: int, sequence: str) -> Any:
    """An item of the functional groups of an enhanced multi-frame, the frame's own before the shared one."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        if groups and (found := groups[0].get(sequence)):
            return found[0]
    return None


def orientation(dataset: Any) -> tuple[Vector, Vector] | None:
    """Unit vectors along a row and along a column (LPS), where they are at right angles."""
    cosines = floats(dataset, "ImageOrientationPatient", 6)
    if cosines is None:
        return None
    right, down = cosines[:3], cosines[3:]  # along a row, along a column
    lengths = np.linalg.norm(right), np.linalg.norm(down)
    if not np.allclose(lengths, 1, atol=0.01) or abs(right @ down) > 0.01:
        return None
    return right / lengths[0], down / lengths[1]


def spacing(dataset: Any) -> tuple[tuple[float, float] | None, str]:
    """mm between rows and between columns, and a note where it is not that of the patient's plane."""
    for keyword, note in (
        ("PixelSpacing", ""),
        ("NominalScannedPixelSpacing", ""),
        ("ImagerPixelSpacing", "Sizes in mm are those at the detector; the patient is smaller by its magnification."),
    ):
        found = floats(dataset, keyword, 2)
        if found is not None and (found > 0).all():
            return (float(found[0]), float(found[1])), note
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    steps = set()
    for region in regions:
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        if units == (CENTIMETRES, CENTIMETRES):
            steps.add((number(region, "PhysicalDeltaY"), number(region, "PhysicalDeltaX")))
    if len(steps) == 1:
        high, wide = steps.pop()
        if high and wide:
            return (abs(high) * 10, abs(wide) * 10), ""
    return None, ""


def scale(dataset: Any) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where the file has none."""
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    return (slope, intercept or 0.0) if slope else (1.0, intercept or 0.0)


def empty() -> Any:
    """An empty dataset."""
    from pydicom.dataset import Dataset

    return Dataset()
