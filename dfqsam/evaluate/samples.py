"""One question to a model: a picture, an object in it, and what is known about both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError

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
        files: what is read, files or folders of a series; their :func:`state` tells whether a result still holds.
        picture: reads the picture, H x W x 3 RGB uint8.
        reference: reads the reference mask, H x W bool; None where there is none.
        box: x0, y0, x1, y1 in pixels, in place of the box of the reference mask.
        spacing: size of a pixel as (row, column) in mm, None where it is not known.
        thickness: of the slice in mm, where the picture is a slice of a volume.
        shown: what else decides the picture: window and series, as text.
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
    shown: str = ""

    @property
    def unit(self) -> str:
        """Of its distances and areas: ``mm`` or ``px``."""
        return "px" if self.spacing is None else "mm"


def state(path: Path) -> tuple[int, int]:
    """Size and time of change of a file in bytes and ns; of a folder, the sum and the latest of all files in it.

    Raises:
        InputError: when it is not there or not readable.
    """
    try:
        if not path.is_dir():
            status = path.stat()
            return status.st_size, status.st_mtime_ns
        inside = [file.stat() for file in path.rglob("*") if file.is_file()]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    return sum(one.st_size for one in inside), max((one.st_mtime_ns for one in inside), default=0)


def by_view(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each picture together, in the order of the list."""
    return [list(group) for _, group in groupby(samples, key=lambda sample: sample.view)]
