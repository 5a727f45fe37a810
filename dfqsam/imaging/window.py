"""From values of a scanner to the 256 grey levels of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError

Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

# Enough for percentiles that are steady to a fraction of a grey level, and quick on a volume of any size.
SAMPLE = 1 << 21
# Part of the values below zero from which on zero is a value like others.
NEGATIVE = 0.01


@dataclass(frozen=True)
class Window:
    """Which values become black and which white, as DICOM defines it (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Args:
        centre: in the units of the values (CT: Hounsfield units).
        width: at least 1 for LINEAR, above 0 for the others.
        function: LINEAR, LINEAR_EXACT or SIGMOID.
        name: for people.

    Raises:
        InputError: for a width that is not allowed, a number that is not finite or an unknown function.

    >>> Window(50, 101).apply([-1, 0, 25, 100, 200]).tolist()
    [0, 0, 64, 255, 255]
    """

    centre: float
    width: float
    function: Function = "LINEAR"
    name: str = ""

    def __post_init__(self) -> None:
        if self.function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            raise InputError(f"The window function {self.function!r} is none of LINEAR, LINEAR_EXACT and SIGMOID.")
        least = 1 if self.function == "LINEAR" else np.finfo(np.float32).tiny
        if not (np.isfinite([self.centre, self.width]).all() and self.width >= least):
            raise InputError(f"A window of centre {self.centre} and width {self.width} cannot be used; widen it.")

    @classmethod
    def between(cls, low: float, high: float, name: str = "") -> Window:
        """The window in which ``low`` is black and ``high`` white; a single value becomes middle grey."""
        return cls((low + high) / 2, max(high - low, 1e-6 * max(1.0, abs(low))), "LINEAR_EXACT", name)

    def apply(self, values: ArrayLike) -> NDArray[np.uint8]:
        """Grey levels 0 to 255 of ``values``, any shape; NaN becomes black."""
        x = np.nan_to_num(np.asarray(values).astype(np.float32), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        with np.errstate(over="ignore"):  # the exponential of a value far outside is infinite, and its grey level 0
            if self.function == "SIGMOID":
                level = 1 / (1 + np.exp(-4 * (x - np.float32(self.centre)) / np.float32(self.width)))
            elif self.function == "LINEAR_EXACT":
                level = (x - np.float32(self.centre)) / np.float32(self.width) + np.float32(0.5)
            elif self.width > 1:
                level = (x - np.float32(self.centre - 0.5)) / np.float32(self.width - 1) + np.float32(0.5)
            else:
                level = (x > np.float32(self.centre - 0.5)).astype(np.float32)
        return np.rint(np.clip(level, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class TableWindow(Window):
    """A table of grey levels (DICOM's VOI LUT, PS3.3 C.11.2.1.1) in place of a line or a curve.

    Centre and width say which values the table tells apart.

    Args:
        levels: grey levels 0 to 255, one for each whole value from ``first`` on.
        first: value that the first level is of; smaller values have its level, values beyond the table the last one.

    >>> TableWindow.of(10, [0, 2, 15], 4).apply([-5, 10, 11, 12.4, 99]).tolist()
    [0, 0, 34, 255, 255]
    """

    levels: bytes = b""
    first: int = 0

    @classmethod
    def of(cls, first: int, entries: ArrayLike, bits: int, name: str = "") -> TableWindow:
        """The table of a file.

        Args:
            first: value that the first entry is of.
            entries: 1 to 65536 of them, each from 0 to 2 ** ``bits`` - 1.
            bits: 1 to 16.
            name: for people.

        Raises:
            InputError: for a table that is none.
        """
        table = np.asarray(entries, np.int64)
        if table.ndim != 1 or not 1 <= table.size <= 1 << 16 or not 1 <= bits <= 16:
            raise InputError(f"A table of grey levels of {table.size} entries of {bits} bits cannot be used.")
        top = (1 << bits) - 1
        if table.min() < 0 or table.max() > top:
            raise InputError(f"A table of grey levels of {bits} bits cannot hold {table.min()} to {table.max()}.")
        levels = np.rint(table * (255 / top)).astype(np.uint8).tobytes()
        centre, width = first + (table.size - 1) / 2, max(1.0, float(table.size))
        return cls(centre, width, "LINEAR_EXACT", name, levels, first)

    def apply(self, values: ArrayLike) -> NDArray[np.uint8]:
        """Grey levels 0 to 255 of ``values``, any shape, each taken as the nearest whole number; NaN becomes black."""
        x = np.asarray(values).astype(np.float64)
        last = self.first + len(self.levels) - 1
        index = np.rint(np.clip(np.nan_to_num(x, nan=self.first), self.first, last)).astype(np.int64) - self.first
        return np.where(np.isnan(x), np.uint8(0), np.frombuffer(self.levels, np.uint8)[index])


# Hounsfield units: centre and width as radiologists commonly set them.
PRESETS = {
    "soft tissue": Window(40, 400, name="soft tissue"),
    "lung": Window(-600, 1500, name="lung"),
    "bone": Window(400, 1800, name="bone"),
    "brain": Window(40, 80, name="brain"),
}


def percentile_window(values: NDArray[np.generic]) -> Window:
    """The window from the 0.5th to the 99.5th percentile of what is not background.

    Where hardly a value (1 %) is below zero, as in MR, ultrasound and X-ray, background is what is not above zero;
    elsewhere all values count. Of more than 2 million values, an even sample is taken. NaN and infinity are left out.
    """
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size // SAMPLE)].astype(np.float32)
    flat = flat[np.isfinite(flat)]
    positive = flat[flat > 0]
    background = positive.size and float(np.mean(flat < 0)) < NEGATIVE
    chosen = positive if background else flat
    if not chosen.size:
        return Window.between(0, 1, "percentiles")
    low, high = np.percentile(chosen, [0.5, 99.5])
    if low == high and background:  # a mask or a map of one label: its background is black
        low = 0.0
    return Window.between(float(low), float(high), "percentiles")
