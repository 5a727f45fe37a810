"""What propagation made of a plane: masks of both models on many slices, and which object each belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfqsam.app.compare import Pair
from dfqsam.app.models import Answer
from dfqsam.app.prompts import Target
from dfqsam.imaging import Plane, View, Window
from dfqsam.segment import Stop

Bits = NDArray[np.uint8]

# Least intersection over union of a box and an object's box for the one to correct the other; neighbours touch.
SAME = 0.1


@dataclass(frozen=True)
class Start:
    """An object's prompt on a slice, from which it is followed."""

    k: int
    label: int
    target: Target


@dataclass(frozen=True)
class End:
    """How far an object was followed from one prompt by one model.

    Args:
        start: where it began.
        full: by the full-precision model.
        first, last: slices; None where the model found nothing.
        below, above: why it ends there; None where a person stopped it.
    """

    start: Start
    full: bool
    first: int | None
    last: int | None
    below: Stop | None
    above: Stop | None


@dataclass(frozen=True)
class Counted:
    """Pixels of one object on one slice, and what they fill; ``full`` and ``common`` are None without such a model.

    Args:
        quantized, full: pixels of each mask.
        common: pixels of both.
        ml: of the quantized mask in millilitres, None where the size of a voxel is unknown.
        full_ml: of the other.
    """

    quantized: int
    full: int | None
    common: int | None
    ml: float | None
    full_ml: float | None

    @property
    def dice(self) -> float | None:
        """Agreement of both masks, 0 to 1; None where nothing compares."""
        if self.full is None or self.common is None:
            return None
        total = self.quantized + self.full
        return 2 * self.common / total if total else None


def count(view: View, voxels: NDArray[np.float64] | None, k: int, pair: Pair) -> Counted:
    """Count the masks of one object on slice ``k``.

    Args:
        view: that shows the slice.
        voxels: ml of a voxel for each stored slice, or None; see :func:`dfqsam.imaging.voxel_millilitres`.
        k: slice of ``view``.
        pair: the masks.
    """

    def filled(mask: NDArray[np.bool_]) -> float | None:
        if voxels is None:
            return None
        if view.axis == 0:
            return float(mask.sum() * voxels[k])
        return float(view.store(mask).sum(axis=1) @ voxels)

    quantized = pair.quantized.mask
    if pair.full is None:
        return Counted(int(quantized.sum()), None, None, filled(quantized), None)
    full = pair.full.mask
    common = int((quantized & full).sum())
    return Counted(int(quantized.sum()), int(full.sum()), common, filled(quantized), filled(full))


@dataclass(frozen=True, eq=False)
class Stack:
    """Masks of one plane.

    Args:
        plane: in which slices were followed.
        window: that the models saw.
        shape: height and width of a slice.
        starts: the prompts, every object with its label.
        quantized: slice to label to packed bits of the mask.
        full: the same; None where there is no full-precision model.
        counts: slice to label to pixels and millilitres.
        ends: of every prompt and model.
        stopped: a person stopped it before its end.
    """

    plane: Plane
    window: Window | None
    shape: tuple[int, int]
    starts: tuple[Start, ...]
    quantized: Mapping[int, Mapping[int, Bits]]
    full: Mapping[int, Mapping[int, Bits]] | None
    counts: Mapping[int, Mapping[int, Counted]]
    ends: tuple[End, ...]
    stopped: bool

    def labels(self, k: int) -> list[int]:
        """Of the objects that a model found on slice ``k``."""
        return sorted({*self.quantized.get(k, {}), *(self.full or {}).get(k, {})})

    def pair(self, k: int, label: int) -> Pair:
        """The masks of an object on a slice, empty where a model did not find it."""
        full = None if self.full is None else self._answer(self.full, k, label)
        return Pair(self._answer(self.quantized, k, label), full)

    def _answer(self, masks: Mapping[int, Mapping[int, Bits]], k: int, label: int) -> Answer:
        bits = masks.get(k, {}).get(label)
        if bits is None:
            return Answer(np.zeros(self.shape, bool), math.nan, math.nan)
        flat = np.unpackbits(bits, count=self.shape[0] * self.shape[1])
        return Answer(flat.reshape(self.shape).astype(bool), math.nan, math.nan)


def _near(box: tuple[float, float, float, float], mask: NDArray[np.bool_]) -> float:
    """Intersection over union of a box and the box around a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0.0
    other = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = sum((one[2] - one[0]) * (one[3] - one[1]) for one in (box, other))
    return wide * high / (areas - wide * high)


def labels_of(stack: Stack | None, k: int, targets: Sequence[Target]) -> list[int]:
    """Which object each prompt on slice ``k`` is of.

    On a slice where propagation began, and without any, the first is object 1 and so on. Elsewhere a box corrects the
    propagated object that it lies on most; one that lies on none, or hardly touches it, is a new object.
    """
    begun = [] if stack is None else [start.label for start in stack.starts if start.k == k]
    if stack is None or begun:
        more = iter(range(1, len(targets) + len(begun) + 1))
        fresh = (label for label in more if label not in begun)
        return [begun[i] if i < len(begun) else next(fresh) for i in range(len(targets))]
    there = {label: stack.pair(k, label) for label in stack.labels(k)}
    masks = {label: pair.quantized.mask | (pair.full or pair.quantized).mask for label, pair in there.items()}
    scores = [
        (_near(target.box, mask), -i, label)
        for i, target in enumerate(targets)
        if target.box is not None
        for label, mask in masks.items()
    ]
    found: dict[int, int] = {}
    for score, i, label in sorted(scores, reverse=True):
        if score >= SAME and -i not in found and label not in found.values():
            found[-i] = label
    known = max((start.label for start in stack.starts), default=0)
    taken = {*found.values(), *masks}
    fresh = (label for label in range(known + 1, known + len(targets) + 2) if label not in taken)
    return [found[i] if i in found else next(fresh) for i in range(len(targets))]
