"""A folder of pictures with reference masks: ``manifest.csv`` with the columns dataset, image, mask and split."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError

# Vessels and thin bleedings: a box says nothing about them, so they are reported apart.
THIN = ("fives_vessel", "hrf_vessel", "ct_ich", "phe_sich")


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
        return _read(self.mask, cv2.IMREAD_GRAYSCALE) > 0

    def picture(self) -> NDArray[np.uint8]:
        """H x W x 3, RGB."""
        return np.ascontiguousarray(_read(self.image, cv2.IMREAD_COLOR)[..., ::-1])


def _read(path: Path, mode: int) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), mode)
    if picture is None:
        raise InputError(f"{path} cannot be read as a picture.")
    return np.asarray(picture, np.uint8)


def cases(folder: Path, split: str = "validation", limit: int | None = None) -> list[Case]:
    """The cases of a split, those of one picture together.

    Args:
        limit: at most so many masks of each data set, spread evenly over its list.

    Raises:
        InputError: when there is no manifest, or it lists nothing for this split.
    """
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{folder} has no manifest.csv; give the folder that holds the pictures and their list.")
    with open(manifest, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    if not rows:
        raise InputError(f"{manifest} lists nothing for the split {split!r}.")
    by_set: dict[str, list[Case]] = {}
    for row in sorted(rows, key=lambda row: (row["dataset"], row["image"], row["mask"])):
        case = Case(row["dataset"], folder / row["image"], folder / row["mask"])
        by_set.setdefault(row["dataset"], []).append(case)
    chosen = []
    for group in by_set.values():
        count = len(group) if limit is None else min(limit, len(group))
        chosen += [group[i * len(group) // count] for i in range(count)]
    return chosen
