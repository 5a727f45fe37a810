"""Frames into a stack: sorted by where they lie, with gaps, repetitions and tilts found and said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfqsam.errors import InputError
from dfqsam.imaging.dicom.elements import Vector
from dfqsam.imaging.dicom.instance import Frame, Instance
from dfqsam.imaging.volume import EVEN, Mm

# Frames closer than this along the normal lie at one place (mm); directions whose cosines differ less are the same.
SAME_PLACE = 0.01
SAME_DIRECTION = 1e-3
# A step within this part of a whole multiple of the usual one means that slices are missing.
MULTIPLE = 0.1

Placed = tuple[Instance, Frame]


@dataclass(frozen=True)
class Stack:
    """Frames in the order of the array, and where they lie (see :class:`dfqsam.imaging.volume.Volume`)."""

    frames: tuple[Placed, ...]
    spacing: tuple[Mm | None, Mm, Mm] | None
    affine: Vector | None
    positions: tuple[Mm, ...] | None = None
    notes: tuple[str, ...] = ()


def _apart(frames: list[Placed]) -> Stack:
    """Frames whose place is unknown, in the order of their numbers."""
    ordered = sorted(frames, key=lambda placed: (*placed[0].order, placed[0].uid, placed[1].number))
    spacing = ordered[0][1].spacing
    known = None if spacing is None else (ordered[0][1].thickness, *spacing)
    notes = ["The file does not say how the patient lies, so sides are unknown."]
    if len(ordered) > 1:
        known = None if known is None else (None, known[1], known[2])
        notes.append("The frames have no places of their own in the patient (they may follow each other in time).")
    return Stack(tuple(ordered), known, None, None, tuple(notes))


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _one_each(frames: list[Placed], places: Vector, chosen: int | None) -> tuple[list[int], list[str]]:
    """Indices of one frame for every place, sorted by place; of a series of several volumes those of ``chosen``."""
    order = sorted(range(len(frames)), key=lambda i: (places[i], *frames[i][0].order, frames[i][1].number))
    groups: list[list[int]] = []
    for i in order:
        if groups and places[i] - places[groups[-1][0]] < SAME_PLACE:
            groups[-1].append(i)
        else:
            groups.append([i])
    for group in groups:
        group.sort(key=lambda i: (*frames[i][0].order, frames[i][1].number))
    most = max(len(group) for group in groups)
    repeated = most > 1 and all(len(group) == most for group in groups)
    if chosen is not None and not 0 <= chosen < (most if repeated else 1):
        raise InputError(f"There is no volume {chosen} in the series; there are {most if repeated else 1}, from 0 on.")
    notes = []
    if repeated and chosen is None:
        notes.append(f"The series holds {most} images at every place; these are the first (volume 0).")
    elif not repeated and most > 1:
        extra = len(frames) - len(groups)
        notes.append(f"{_plural(extra, 'image')} at a place already taken left out; the lowest number was kept.")
    return [group[(chosen or 0) if repeated else 0] for group in groups], notes


def _steps(places: Vector) -> tuple[bool, list[str]]:
    """Whether slices are even, and what is to be said where they are not."""
    steps = np.diff(places)
    if steps.max() <= EVEN * steps.min():
        return True, []
    usual = float(np.median(steps))
    usual = float(steps.min()) if usual > 1.5 * steps.min() else usual
    multiples = steps / usual
    whole = np.abs(multiples - np.rint(multiples)) <= MULTIPLE
    missing = int((np.rint(multiples) - 1).sum())
    if whole.all() and missing:
        after = ", ".join(str(i) for i in np.flatnonzero(np.rint(multiples) > 1)[:5])
        return False, [f"{_plural(missing, 'slice')} missing (steps of {usual:.2f} mm, longer after slice {after})."]
    return False, [f"The steps between slices differ ({steps.min():.2f} to {steps.max():.2f} mm)."]


def stack(frames: list[Placed], volume: int | None = None) -> Stack:
    """The stack that the frames of one series make.

    Args:
        frames: at least one.
        volume: where there are several frames at every place (time points, echoes), which of them, from 0 on.

    Raises:
        InputError: when slices have different sizes, directions or pixel spacings, or the volume is not there.
    """
    sizes = sorted({(made.rows, made.columns, made.colour) for made, _ in frames})
    if len(sizes) > 1:
        listed = ", ".join(f"{columns} x {rows}" for rows, columns, _ in sizes[:4])
        raise InputError(
            f"The series mixes pictures of different sizes or colours ({listed}); give one file or a folder of each."
        )
    orientation, spacing = frames[0][1].orientation, frames[0][1].spacing
    placed = all(f.position is not None and f.orientation is not None and f.spacing is not None for _, f in frames)
    if not placed or orientation is None or spacing is None:
        return _apart(frames)
    for _, frame in frames:
        near = frame.orientation is not None and all(
            np.allclose(a, b, atol=SAME_DIRECTION) for a, b in zip(frame.orientation, orientation, strict=True)
        )
        if not near:
            raise InputError("The series mixes slices of different directions (a scout?); give a folder of each.")
        if frame.spacing is None or not np.allclose(frame.spacing, spacing, rtol=1e-3):
            raise InputError("The series mixes slices of different pixel spacings; give a folder of each.")
    right, down = orientation
    normal = np.cross(right, down)
    at = np.array([frame.position for _, frame in frames])
    kept, notes = _one_each(frames, at @ normal, volume)
    at, ordered = at[kept], tuple(frames[i] for i in kept)
    places = at @ normal
    affine = np.eye(4)
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = down * spacing[0], right * spacing[1], at[0]
    positions = None
    if len(ordered) == 1:
        thickness = ordered[0][1].thickness
        affine[:3, 0] = normal * (thickness or 1.0)
        between = thickness
    else:
        affine[:3, 0] = (at[-1] - at[0]) / (len(ordered) - 1)
        between = float(np.linalg.norm(affine[:3, 0]))
        even, found = _steps(places)
        notes += found
        straight = at[0] + np.outer((places - places[0]) / (places[-1] - places[0]), at[-1] - at[0])
        shifted = float(np.abs(at - straight).max())
        if shifted > min(spacing) / 2:
            even = False
            notes.append(f"Slices are shifted against each other by up to {shifted:.1f} mm.")
        leaning = affine[:3, 0] - normal * (normal @ affine[:3, 0])
        if np.linalg.norm(leaning) > SAME_DIRECTION * between * 10:
            notes.append("The slices lean (a tilted gantry): each lies where it was taken, nothing is straightened.")
        positions = None if even else tuple(float(place - places[0]) for place in places)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return Stack(ordered, (between, *spacing), to_ras @ affine, positions, tuple(notes))
