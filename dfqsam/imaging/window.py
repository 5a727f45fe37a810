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
