"""One study and its prompts in, a mask on its voxels out: the one function that batches and larger engines map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging import Plane, View, Volume, Window, open_study
from dfqsam.progress import stage
from dfqsam.segment.found import Found, Overlap, Segmentation
from dfqsam.segment.prompt import Prompt
from dfqsam.segment.rules import Propagation
from dfqsam.segment.slices import Segmenter, Slices
from dfqsam.segment.step import Stop
from dfqsam.segment.trail import DOWN, UP, Trail, follow, share

MAX_LABEL = 65_535


@contextmanager
def _named(prompt: Prompt) -> Iterator[None]:
    """Puts where the prompt was read before what is wrong with it."""
    try:
        yield
    except InputError as error:
        if not prompt.origin:
            raise
        raise InputError(f"{prompt.origin}: {error}") from error


def _placed(prompt: Prompt, view: View) -> Prompt:
    """The prompt with slice and plane filled in."""
    if not 1 <= prompt.label <= MAX_LABEL:
        raise InputError(f"The label {prompt.label} is none; give a whole number from 1 to {MAX_LABEL}.")
    if prompt.slice is None and view.count > 1:
        raise InputError(
            f"The study has {view.count} {view.plane} slices; say which one the box is on, 0 to {view.count - 1}."
        )
    return replace(prompt, slice=prompt.slice or 0, plane=view.plane)


def _found(trail: Trail) -> Found:
    if not trail.masks:
        return Found(trail.prompt, None, None, Stop.EMPTY, Stop.EMPTY, None, None)
    ends = min(trail.masks), max(trail.masks)
    quality = trail.quality[trail.start], min(trail.quality.values())
    return Found(trail.prompt, *ends, trail.stops[DOWN], trail.stops[UP], *quality)


def _label_names(prompts: Sequence[Prompt]) -> dict[int, str]:
    names = dict.fromkeys(sorted({prompt.label for prompt in prompts}), "")
    for prompt in prompts:
        if prompt.name and names[prompt.label] not in ("", prompt.name):
            raise InputError(f"The label {prompt.label} is named both {names[prompt.label]!r} and {prompt.name!r}.")
        names[prompt.label] = prompt.name or names[prompt.label]
    return names


def segment_study(
    predictor: Segmenter,
    study: Volume | str | Path,
    prompts: Sequence[Prompt],
    rules: Propagation | None = None,
    window: Window | str | None = None,
) -> Segmentation:
    """Segment objects of a study, each from a box or clicks on a slice, followed through the stack both ways.

    Every slice goes through the encoder once, however many objects lie on it. Prompts are checked before the first.
    Where masks overlap the later prompt holds, so give large objects before small ones; what is covered is counted.

    Args:
        predictor: a bundle made ready; see :class:`dfqsam.segment.Segmenter` for what is needed of it.
        study: a volume that was opened, or the path of one.
        prompts: at least one.
        rules: when to stop; None for the ones that were measured.
        window: of the grey levels, as :meth:`dfqsam.imaging.Volume.window` takes it.

    Raises:
        InputError: for a study that cannot be read, no prompts, or a prompt that does not fit the study.
    """
    volume = study if isinstance(study, Volume) else open_study(study)
    rules = rules or Propagation()
    if not prompts:
        raise InputError("There is no prompt; give a box or clicks.")
    names = _label_names(prompts)
    groups: dict[Plane, tuple[Slices, list[int], list[Trail]]] = {}
    for number, prompt in enumerate(prompts):
        with _named(prompt):
            plane = prompt.plane or ("stored" if volume.shape[0] == 1 else volume.natural_plane)
            if plane not in groups:
                groups[plane] = Slices(predictor, volume, volume.view(plane), window), [], []
            slices, numbers, paths = groups[plane]
            placed = _placed(prompt, slices.view)
            slices.check(placed.slice or 0, placed)
            paths.append(Trail.of(placed, slices.view.count))
            numbers.append(number)
    done: dict[int, tuple[Trail, View]] = {}
    with stage("slices") as advance:
        for slices, numbers, paths in groups.values():
            slices.on_encoded = advance
            share(paths)
            follow(paths, slices, rules)
            done |= {number: (trail, slices.view) for number, trail in zip(numbers, paths, strict=True)}
    ordered = [done[number] for number in range(len(prompts))]
    mask = np.zeros(volume.shape, np.uint8 if max(names) < 256 else np.uint16)
    for label, inside, axis, k in _drawn(ordered):
        mask[_at(axis, k)][inside] = label
    encoded = sum(slices.encoded for slices, _, _ in groups.values())
    found = tuple(_found(trail) for trail, _ in ordered)
    return Segmentation(volume, mask, names, found, encoded, _overlaps(mask, ordered))


def _at(axis: int, k: int) -> tuple[int | slice, ...]:
    """Index of slice k of a volume."""
    return tuple(k if i == axis else slice(None) for i in range(3))


def _drawn(ordered: Sequence[tuple[Trail, View]]) -> Iterator[tuple[int, NDArray[np.bool_], int, int]]:
    """Label, what was drawn (as stored), axis and slice, for every slice of every trail."""
    for trail, view in ordered:
        for k in trail.masks:
            yield trail.prompt.label, view.store(trail.mask_at(k, view.shape)), view.axis, k


def _overlaps(mask: NDArray[Any], ordered: Sequence[tuple[Trail, View]]) -> tuple[Overlap, ...]:
    """What was drawn of each label and is another one's in the mask."""
    lost: dict[int, list[NDArray[np.intp]]] = {}
    for label, inside, axis, k in _drawn(ordered):
        gone = np.argwhere(inside & (mask[_at(axis, k)] != label))
        if len(gone):
            places = np.insert(gone, axis, k, axis=1)
            lost.setdefault(label, []).append(np.asarray(np.ravel_multi_index(tuple(places.T), mask.shape)))
    found = []
    for label, parts in sorted(lost.items()):
        under, counts = np.unique(mask.ravel()[np.unique(np.concatenate(parts))], return_counts=True)
        found += [Overlap(label, int(one), int(count)) for one, count in zip(under, counts, strict=True)]
    return tuple(found)
