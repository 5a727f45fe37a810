"""One question to a model: a picture, an object in it, and what is known about both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sample:
    """An object on a picture.

    Attributes:
        key: names it within the data; unique.
        view: names the picture; objects of one picture share it and follow each other.
        dataset: where it comes from; figures are averaged within data sets first.
        modality: kind of picture, or "".
        patient: whose it is; the unit of statistics.
        label: what the object is, or "".
        files: what is read; their sizes and times of change tell whether a result still holds.
        picture: reads the picture, H x W x 3 RGB uint8.
        reference: reads the reference mask, H x W bool; None where there is none.
        box: x0, y0, x1, y1 in pixels, in place of the box of the reference mask.
        spacing: size of a pixel as (row, column) in mm, None where it is not known.
        thickness: of the slice in mm, where the picture is a slice of a volume.
    """

    key: str
    view: str
    dataset: str
    modality: str
    patient: str
    label: str
    files: tuple[Path, ...]
    picture: Callable[[], Picture]
    reference: Callable[[], Mask] | None = None
    box: Box | None = None
    spacing: tuple[float, float] | None = None
    thickness: float | None = None

    @property
    def unit(self) -> str:
        """Of its distances and areas: ``mm`` or ``px``."""
        return "px" if self.spacing is None else "mm"


def by_view(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each picture together, in the order of the list."""
    return [list(group) for _, group in groupby(samples, key=lambda sample: sample.view)]
