"""Means of rows: over data sets as the README's tables have them, and within groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, TypeVar

import numpy as np

from dfqsam.evaluate.medseg import THIN
from dfqsam.evaluate.metrics import TOLERANCE
from dfqsam.evaluate.rows import Row

T = TypeVar("T")
FIGURES = (
    "agreement", "agreement_iou", "agreement_hd95", "agreement_nsd", "dice_fp", "dice_q", "iou_fp", "iou_q",
    "hd95_fp", "hd95_q", "nsd_fp", "nsd_q", "area_error_fp", "area_error_q",
)  # fmt: skip


def grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Items by their key, keys sorted."""
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return dict(sorted(found.items()))


def mean_over_sets(scores: Iterable[tuple[str, float]], thin: bool = False) -> float:
    """Mean over data sets of their mean scores, thin structures left out unless asked for.

    Args:
        scores: data set and score of every case; at least one has to be left.

    >>> mean_over_sets([("a", 0.0), ("a", 1.0), ("b", 1.0), ("hrf_vessel", 0.0)])
    0.75
    """
    counted = [pair for pair in scores if thin or pair[0] not in THIN]
    return fmean(fmean(score for _, score in pairs) for pairs in grouped(counted, lambda pair: pair[0]).values())


def _means(rows: Sequence[Row], over_sets: bool) -> dict[str, Any]:
    """The mean of every figure that at least one row has; without those of it that do not exist."""
    found: dict[str, Any] = {"cases": len(rows), "patients": len({row.patient for row in rows})}
    for name in FIGURES:
        pairs = [(row.dataset, value) for row in rows if (value := getattr(row, name)) is not None]
        if pairs:
            mean = mean_over_sets(pairs, thin=True) if over_sets else fmean(value for _, value in pairs)
            found[name] = round(mean, 6)
    if "dice_fp" in found:
        found["dice_drop"] = round(found["dice_fp"] - found["dice_q"], 6)
        found["hd95_undefined_fp"] = sum(row.hd95_fp is None for row in rows)
        found["hd95_undefined_q"] = sum(row.hd95_q is None for row in rows)
    return found


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """For each kind of prompt: means over data sets (thin structures apart), and by data set, modality and label.

    Distances are in the unit of the rows; where these have both units, ``unit`` names both, and means of distances
    mix them.
    """
    found: dict[str, Any] = {"tolerance": TOLERANCE, "unit": sorted({row.unit for row in rows}), "prompts": {}}
    for prompt in dict.fromkeys(row.prompt for row in rows):
        mine = [row for row in rows if row.prompt == prompt]
        thick = [row for row in mine if row.dataset not in THIN]
        part: dict[str, Any] = {"mean_over_data_sets": _means(thick, True)}
        if len(thick) < len(mine):
            part["thin_structures"] = _means([row for row in mine if row.dataset in THIN], True)
        for name in ("dataset", "modality", "label"):
            groups = grouped(mine, lambda row, name=name: getattr(row, name))
            part[f"by_{name}"] = {key: _means(group, False) for key, group in groups.items()}
        found["prompts"][prompt] = part
    return found


def volumes(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[float, float]]:
    """Volumes of full precision and quantized in ml, added up over the slices of each patient and label, where rows are
    slices of volumes."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        if row.volume_fp is not None and row.volume_q is not None:
            one, two = found.get((row.patient, row.label), (0.0, 0.0))
            found[row.patient, row.label] = one + row.volume_fp / 1000, two + row.volume_q / 1000
    return found


def worst(rows: Sequence[Row], count: int) -> list[int]:
    """Indices of the rows that lose most Dice by quantization; of lowest agreement where there is no reference."""

    def lost(row: Row) -> float:
        if row.dice_fp is None or row.dice_q is None:
            return 1 - row.agreement
        return row.dice_fp - row.dice_q

    order = np.argsort([-lost(row) for row in rows], kind="stable")
    return [int(i) for i in order[:count]]
