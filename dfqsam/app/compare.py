"""Prompts to the masks of both models, and the figures that a clinician reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dfqsam.app.models import Answer, Choice
from dfqsam.app.prompts import Target
from dfqsam.evaluate.metrics import dice, surface
from dfqsam.imaging import View, Volume, area_mm2


@dataclass(frozen=True)
class Pair:
    """The masks of one object; ``full`` is None where there is no full-precision model."""

    quantized: Answer
    full: Answer | None


def segment(choice: Choice, picture: NDArray[np.uint8], target: Target) -> Pair:
    """Both models on an H x W x 3 uint8 picture.

    Raises:
        InputError: for a prompt that the models were not trained on.
    """
    quantized = choice.quantized.segment(picture, target)
    return Pair(quantized, None if choice.full is None else choice.full.segment(picture, target))


def preparations(choice: Choice, picture: NDArray[np.uint8]) -> list[Callable[[], object]]:
    """What encodes a picture for prompts to come, a step for each model; those who wait for a mask go first."""
    return [partial(model.embedding, picture, urgent=False) for model in choice.models]


@dataclass(frozen=True)
class Figures:
    """What is read of one object's masks.

    Args:
        unit: of distances: mm, or px where the file does not say how large a pixel is; areas are in its square.
        area: of the quantized mask.
        full_area: of the full-precision mask; None where there is none, as the two below.
        dice: agreement of the two, 0 to 1.
        hd95: 95th percentile of the distance of their outlines; also None where one of the two is empty.
    """

    unit: str
    area: float
    full_area: float | None = None
    dice: float | None = None
    hd95: float | None = None


def _area(volume: Volume, view: View, mask: NDArray[np.bool_]) -> float:
    return float(mask.sum()) if view.spacing is None else area_mm2(volume, view, mask)


def figures(volume: Volume, view: View, pair: Pair) -> Figures:
    """Figures of one object on a slice of ``view``."""
    unit = "px" if view.spacing is None else "mm"
    area = _area(volume, view, pair.quantized.mask)
    if pair.full is None:
        return Figures(unit, area)
    full, quantized = pair.full.mask, pair.quantized.mask
    apart = surface(full, quantized, view.spacing or (1.0, 1.0)).hd95
    distance = None if math.isnan(apart) else apart
    return Figures(unit, area, _area(volume, view, full), dice(full, quantized), distance)
