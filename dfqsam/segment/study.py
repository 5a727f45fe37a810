"""One study and its prompts in, a mask on its voxels out: the one function that batches and larger engines map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging import Plane, View, Volume, Window, millilitres, open_study
from dfqsam.progress import stage
from dfqsam.segment.prompt import Prompt
from dfqsam.segment.rules import Propagation
from dfqsam.segment.slices import Segmenter, Slices
from dfqsam.segment.step import WORDS, Stop
from dfqsam.segment.trail import DOWN, UP, Trail, follow, share

MAX_LABEL = 65_535


@dataclass(frozen=True)
class Found:
    """What a prompt led to.

    Args:
        prompt: with slice and plane filled in.
        first, last: slices from where to where the object was found; None where nothing was.
        below, above: why it ends there, towards slice 0 and away from it.
        quality: the model's own estimate of the IoU on the prompt's slice, None where nothing was found.
        least_quality: the least on any slice.
    """

    prompt: Prompt
    first: int | None
    last: int | None
    below: Stop
    above: Stop
    quality: float | None
    least_quality: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "label": self.prompt.label,
            "plane": self.prompt.plane,
            "slice": self.prompt.slice,
            "box": list(self.prompt.box),
            "first": self.first,
            "last": self.last,
            "stopped_below": str(self.below),
            "stopped_above": str(self.above),
            "predicted_iou": None if self.quality is None else round(self.quality, 4),
            "least_predicted_iou": None if self.least_quality is None else round(self.least_quality, 4),
        }

    def __str__(self) -> str:
        name = self.prompt.name or f"label {self.prompt.label}"
        where = f"{name}, box on {self.prompt.plane} slice {self.prompt.slice}"
        if self.first is None:
            return f"{where}: the model finds nothing"
        if self.below is Stop.SINGLE:
            return f"{where}: that slice only, predicted IoU {self.quality:.2f}"
        return (
            f"{where}: slices {self.first} to {self.last}, predicted IoU {self.quality:.2f} (least "
            f"{self.least_quality:.2f}); below, {WORDS[self.below]}; above, {WORDS[self.above]}"
        )


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask of a study.

    Args:
        volume: the study.
        mask: S x R x C of labels, uint8 or uint16; 0 is outside. Where objects overlap, the later prompt's holds.
        names: of the labels, for people.
        found: for each prompt, in their order.
        encoded: how many times a picture went through the encoder.
    """

    volume: Volume
    mask: NDArray[Any]
    names: dict[int, str]
    found: tuple[Found, ...]
    encoded: int

    def ml(self, label: int) -> float | None:
        """Volume of an object; None where the study does not say how large a voxel is."""
        try:
            return millilitres(self.volume, self.mask == label)
        except InputError:
            return None

    def to_json(self) -> dict[str, Any]:
        """Labels with their voxels and volumes, prompts with their slices and the reasons to stop; plain values."""
        labels = []
        for label, name in self.names.items():
            ml = self.ml(label)
            voxels = int((self.mask == label).sum())
            labels.append({"label": label, "name": name, "voxels": voxels, "ml": None if ml is None else round(ml, 6)})
        return {
            "labels": labels,
            "prompts": [one.to_json() for one in self.found],
            "encoded_slices": self.encoded,
            "notes": list(self.volume.notes),
        }


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
    """Segment objects of a study, each from a box on one slice, followed through the stack in both directions.

    Every slice goes through the encoder once, however many objects lie on it. Prompts are checked before the first.
    Where masks overlap the later prompt holds, so give large objects before small ones.

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
        raise InputError("There is no prompt; give a box.")
    names = _label_names(prompts)
    groups: dict[Plane, tuple[Slices, list[int], list[Trail]]] = {}
    for number, prompt in enumerate(prompts):
        with _named(prompt):
            plane = prompt.plane or ("stored" if volume.shape[0] == 1 else volume.natural_plane)
            if plane not in groups:
                groups[plane] = Slices(predictor, volume, volume.view(plane), window), [], []
            slices, numbers, paths = groups[plane]
            placed = _placed(prompt, slices.view)
            slices.check(placed.slice or 0, placed.box)
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
    for trail, view in ordered:
        for k in trail.masks:
            index: list[int | slice] = [slice(None)] * 3
            index[view.axis] = k
            mask[tuple(index)][view.store(trail.mask_at(k, view.shape))] = trail.prompt.label
    encoded = sum(slices.encoded for slices, _, _ in groups.values())
    return Segmentation(volume, mask, names, tuple(_found(trail) for trail, _ in ordered), encoded)
