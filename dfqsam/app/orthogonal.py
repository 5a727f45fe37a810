"""Three planes through one voxel: what the planes component is told, and what it answers. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.app import display
from dfqsam.app.sent import Sent
from dfqsam.imaging import Plane, View, Volume, Window

Voxel = tuple[int, int, int]  # slice, row, column, as stored


def planes(volume: Volume) -> tuple[Plane, ...]:
    """The three planes to show; none where the file does not say how the patient lies, or has one slice."""
    return () if volume.affine is None or volume.shape[0] == 1 else ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Spot:
    """A place on a slice of a view: its slice, and the pixel (x to the right, y down)."""

    k: int
    x: int
    y: int


def spot(view: View, voxel: Voxel) -> Spot:
    """Where a view shows a voxel."""
    inside = [voxel[i] for i in range(3) if i != view.axis]
    row, column = reversed(inside) if view.transposed else inside
    height, width = view.shape
    y = height - 1 - row if view.flipped[0] else row
    x = width - 1 - column if view.flipped[1] else column
    return Spot(voxel[view.axis], x, y)


def voxel(view: View, place: Spot) -> Voxel:
    """The inverse of :func:`spot`."""
    height, width = view.shape
    row = height - 1 - place.y if view.flipped[0] else place.y
    column = width - 1 - place.x if view.flipped[1] else place.x
    first, second = (column, row) if view.transposed else (row, column)
    found = [first, second]
    found.insert(view.axis, place.k)
    return found[0], found[1], found[2]


def moved(volume: Volume, at: Voxel, asked: Any) -> Voxel:
    """The voxel after what the component asked for: a pixel or another slice of one of the three planes; the same one
    for anything that is not understood, as the browser is not trusted."""
    known = planes(volume)
    number = asked.get("plane") if isinstance(asked, dict) else None
    if type(number) is not int or not 0 <= number < len(known):
        return at
    view = volume.view(known[number])
    here = spot(view, at)
    height, width = view.shape
    limits = {"slice": (here.k, view.count), "x": (here.x, width), "y": (here.y, height)}
    values = []
    for name, (now, limit) in limits.items():
        value = asked.get(name, now)
        if type(value) is not int or not 0 <= value < limit:
            return at
        values.append(value)
    return voxel(view, Spot(*values))


def scene(
    volume: Volume,
    at: Voxel,
    window: Window | None,
    masks: NDArray[np.uint8],
    colours: Mapping[int, str],
    look: display.Look,
    study: str,
    hint: str = "",
    sent: Sent | None = None,
) -> dict[str, Any]:
    """All that the planes component needs, as JSON.

    Args:
        volume: with an orientation.
        at: the voxel that all three planes go through.
        window: of the grey levels.
        masks: S x R x C, a bit for each mask.
        colours: of the bits, in the order in which they are drawn; all but the first are dashed.
        look: how.
        study: names what is looked at; another one starts unzoomed.
        hint: a sentence below.
        sent: pictures that the browser has.
    """
    made = []
    for plane in planes(volume):
        view = volume.view(plane)
        place = spot(view, at)
        picture = volume.picture(place.k, view, window)
        rows, columns = display.grid(view.shape)
        index: list[int | slice] = [slice(None)] * 3
        index[view.axis] = place.k
        cut = view.show(masks[tuple(index)])
        layers = [
            display.layer((cut & bit) > 0, colour, dashed=number > 0)
            for number, (bit, colour) in enumerate(colours.items())
        ]
        made.append(
            {
                "title": plane.capitalize(),
                **display.picture_once(picture, sent),
                "width": view.shape[1],
                "height": view.shape[0],
                "grid": {"width": columns, "height": rows},
                "aspect": view.aspect,
                "mm": 1.0 if view.spacing is None else view.spacing[1],
                "sides": None if view.sides is None else vars(view.sides),
                "cursor": {"x": place.x, "y": place.y},
                "index": place.k,
                "count": view.count,
                "layers": layers,
            }
        )
    return {
        "planes": made,
        "unit": "px" if volume.spacing is None else "mm",
        "style": {"mode": look.mode, "opacity": look.opacity},
        "study": study,
        "hint": hint,
    }
