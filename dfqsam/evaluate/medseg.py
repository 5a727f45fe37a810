"""A folder of pictures with reference masks: ``manifest.csv`` with the columns dataset, image, mask and split.

For :func:`samples`, image and mask suffice; the columns modality, label, patient_or_group (or patient) and spacing_mm
are used where they are there.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.evaluate.samples import Sample
from dfqsam.imaging import read_picture

# Vessels and thin bleedings: a box says nothing about them, so they are reported apart.
THIN = ("fives_vessel", "hrf_vessel", "ct_ich", "phe_sich")
VALIDATION = "validation"
COLUMNS = ("dataset", "image", "mask", "split")

Row = dict[str, str]


@dataclass(frozen=True)
class Case:
    """One reference mask on one picture."""

    dataset: str
    image: Path
    mask: Path

    def box(self) -> NDArray[np.float32]:
        """The exact box of the mask: x0, y0, x1, y1 in pixels, the indices of its outermost pixels."""
        rows, columns = np.nonzero(self.reference())
        return np.array([columns.min(), rows.min(), columns.max(), rows.max()], np.float32)

    def reference(self) -> NDArray[np.bool_]:
        """H x W."""
        return read_picture(self.mask).max(axis=-1) > 0

    def picture(self) -> NDArray[np.uint8]:
        """H x W x 3, RGB."""
        return read_picture(self.image)


def _rows(folder: Path, split: str, needed: tuple[str, ...] = COLUMNS) -> list[Row]:
    """The manifest's rows of a split, sorted by data set, image and mask; without such a column, all rows, and one data
    set with the folder's name."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{folder} has no manifest.csv; give the folder that holds the pictures and their list.")
    try:
        with open(manifest, newline="") as file:
            reader = csv.DictReader(file)
            names, found = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{manifest} cannot be read as CSV ({error}); save it as plain CSV in UTF-8.") from error
    missing = [name for name in needed if name not in names]
    if missing:
        raise InputError(f"{manifest} has no column {', '.join(missing)}; it needs {', '.join(needed)}.")
    if any(row[name] is None for row in found for name in {*COLUMNS} & {*names}):
        raise InputError(f"{manifest} has a row with too few columns; each row needs all that the first line names.")
    rows = [{"dataset": folder.resolve().name, **row} for row in found if row.get("split", split) == split]
    if not rows:
        raise InputError(f"{manifest} lists nothing for the split {split!r}.")
    return sorted(rows, key=lambda row: (row["dataset"], row["image"], row["mask"]))


def cases(folder: Path, split: str = VALIDATION, limit: int | None = None) -> list[Case]:
    """The cases of a split, those of one picture together.

    Args:
        limit: at most so many masks of each data set, spread evenly over its list.

    Raises:
        InputError: when there is no manifest, it lacks a column, or it lists nothing for this split.
    """
    by_set: dict[str, list[Case]] = {}
    for row in _rows(folder, split):
        case = Case(row["dataset"], folder / row["image"], folder / row["mask"])
        by_set.setdefault(row["dataset"], []).append(case)
    chosen = []
    for group in by_set.values():
        count = len(group) if limit is None else min(limit, len(group))
        chosen += [group[i * len(group) // count] for i in range(count)]
    return chosen


def _spacing(row: Row, folder: Path) -> tuple[float, float] | None:
    text = row.get("spacing_mm") or ""
    if not text:
        return None
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise InputError(f"{folder / 'manifest.csv'}: spacing_mm {text!r} of {row['image']} is no size of a pixel.")
    return size, size


def samples(folder: Path, split: str = VALIDATION) -> list[Sample]:
    """The samples of a split, those of one picture together. Without a patient's name, a picture counts as one.

    Raises:
        InputError: as :func:`cases`, and for a ``spacing_mm`` that is no number above 0.
    """
    found = []
    for row in _rows(folder, split, ("image", "mask")):
        case = Case(row["dataset"], folder / row["image"], folder / row["mask"])
        patient = row.get("patient_or_group") or row.get("patient") or row["image"]
        found.append(
            Sample(
                key=row["mask"],
                view=row["image"],
                dataset=row["dataset"],
                modality=row.get("modality") or "",
                patient=f"{row['dataset']}/{patient}",
                label=row.get("label") or "",
                files=(case.image, case.mask),
                picture=case.picture,
                reference=case.reference,
                spacing=_spacing(row, folder),
            )
        )
    return found
