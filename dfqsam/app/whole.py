"""The masks of all slices of a plane together: what was propagated, and what was drawn on single slices since."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfqsam.app.compare import Pair
from dfqsam.app.models import Choice
from dfqsam.app.prompts import Target
from dfqsam.app.session import Work
from dfqsam.app.stack import Counted, Stack, Start, count, labels_of
from dfqsam.errors import InputError
from dfqsam.imaging import Window, voxel_millilitres


def stack_of(work: Work, choice: Choice) -> Stack | None:
    """What was propagated in the plane that is shown, with this bundle; None also where an object that it began with
    was removed, so that nobody can say which is which."""
    stack = work.stacks.get((choice.name, work.plane))
    if stack is None:
        return None
    begun = [start.k for start in stack.starts]
    if any(len(work.drawn(k).targets) < begun.count(k) for k in set(begun)):
        return None
    return stack


def starts(work: Work, stack: Stack | None) -> list[Start]:
    """Every box of the plane that is shown, with the object it is of: from there objects are followed."""
    found = []
    for (plane, k), prompts in sorted(work.prompts.items()):
        if plane == work.plane:
            labels = labels_of(stack, k, prompts.targets)
            found += [Start(k, label, target) for label, target in zip(labels, prompts.targets, strict=True)]
    return found


def why_stale(work: Work, stack: Stack, window: Window | None) -> str:
    """What has changed since propagation, one sentence; empty where nothing has."""
    if starts(work, stack) != sorted(stack.starts, key=lambda one: one.k):
        return "Boxes have changed since: each holds for its own slice, and the other slices are as they were."
    if window != stack.window:
        return "The window has changed since: these masks were made with the one before."
    return ""


def on_slice(stack: Stack | None, k: int, targets: Sequence[Target], pairs: Sequence[Pair]) -> dict[int, Pair]:
    """Masks of both models by object: those drawn on slice ``k``, and those propagated to it where none was drawn."""
    found = {} if stack is None else {label: stack.pair(k, label) for label in stack.labels(k)}
    return dict(sorted((found | dict(zip(labels_of(stack, k, targets), pairs, strict=False))).items()))


def masks(work: Work, choice: Choice, window: Window | None, full: bool = False) -> dict[int, list[NDArray[np.bool_]]]:
    """For each slice of the plane the masks of objects 1, 2 and so on, to be saved; those that are not on it are empty.

    Raises:
        InputError: when the full-precision masks are asked for and there are none, and as :meth:`Work.answers`.
    """
    stack = stack_of(work, choice)
    drawn = work.all_pairs(choice, window)
    if full and choice.full is None:
        raise InputError("This bundle has no full-precision model; save the quantized mask.")
    found: dict[int, list[NDArray[np.bool_]]] = {}
    for k in sorted(set(drawn) | set({} if stack is None else stack.counts)):
        here = on_slice(stack, k, work.drawn(k).targets, drawn.get(k, []))
        empty = np.zeros(work.view.shape, bool)
        answers = {label: pair.full if full and pair.full else pair.quantized for label, pair in here.items()}
        found[k] = [answers[label].mask if label in answers else empty for label in range(1, max(here) + 1)]
    return found


Counts = dict[int, dict[int, Counted]]


def counts(work: Work, choice: Choice, window: Window | None) -> Counts:
    """Pixels and millilitres of every object on every slice of the plane that has some."""
    stack = stack_of(work, choice)
    try:
        voxels = voxel_millilitres(work.volume)
    except InputError:
        voxels = None
    found: Counts = {} if stack is None else {k: dict(here) for k, here in stack.counts.items()}
    for k, pairs in work.all_pairs(choice, window).items():
        labels = labels_of(stack, k, work.drawn(k).targets)
        for label, pair in zip(labels, pairs, strict=True):
            found.setdefault(k, {})[label] = count(work.view, voxels, k, pair)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Total:
    """One object through all slices, or all objects together.

    Args:
        slices, full_slices: on how many it is, by the quantized and the full-precision model.
        ml, full_ml: volumes, None where the size of a voxel is unknown.
        voxels, full_voxels: the same, counted.
        dice: agreement of both models' masks over the volume, 0 to 1; None where nothing compares.
    """

    slices: int
    full_slices: int | None
    ml: float | None
    full_ml: float | None
    voxels: int
    full_voxels: int | None
    dice: float | None


def total(found: Sequence[Counted]) -> Total:
    """Sum what was counted; one entry for each slice (and object)."""
    ml = None if any(one.ml is None for one in found) else sum(one.ml or 0.0 for one in found)
    voxels = sum(one.quantized for one in found)
    slices = sum(one.quantized > 0 for one in found)
    if any(one.full is None for one in found):
        return Total(slices, None, ml, None, voxels, None, None)
    full = sum(one.full or 0 for one in found)
    common = sum(one.common or 0 for one in found)
    full_ml = None if ml is None else sum(one.full_ml or 0.0 for one in found)
    dice = 2 * common / (voxels + full) if voxels + full else None
    return Total(slices, sum((one.full or 0) > 0 for one in found), ml, full_ml, voxels, full, dice)


def totals(found: Mapping[int, Mapping[int, Counted]]) -> dict[int, Total]:
    """By object."""
    labels = sorted({label for here in found.values() for label in here})
    return {label: total([here[label] for here in found.values() if label in here]) for label in labels}


QUANTIZED_BIT, FULL_BIT = 1, 2


def bits(work: Work, choice: Choice, window: Window | None) -> NDArray[np.uint8]:
    """S x R x C, bit 1 where any object is by the quantized model, bit 2 by that of full precision."""
    found = work.volume.empty_mask()
    view = work.view
    stack = stack_of(work, choice)
    drawn = work.all_pairs(choice, window)
    for k in set(drawn) | set({} if stack is None else stack.counts):
        here = on_slice(stack, k, work.drawn(k).targets, drawn.get(k, [])).values()
        both = np.zeros(view.shape, np.uint8)
        for pair in here:
            both[pair.quantized.mask] |= QUANTIZED_BIT
            if pair.full is not None:
                both[pair.full.mask] |= FULL_BIT
        index: list[int | slice] = [slice(None)] * 3
        index[view.axis] = k
        found[tuple(index)] = view.store(both)
    return found


def state(work: Work, choice: Choice, window: Window | None) -> Hashable:
    """What the masks of all slices come from: as long as it is the same, so are they."""
    stack = stack_of(work, choice)
    drawn = tuple((place, one.targets) for place, one in sorted(work.prompts.items()) if place[0] == work.plane)
    return work.number, choice.name, work.plane, window, stack, drawn
