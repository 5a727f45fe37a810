"""Prompts as the picture component sends them, checked before anything is computed: the browser is not trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dfqsam.errors import InputError
from dfqsam.sam.prompts import checked_box, checked_points

MAX_OBJECTS = 50
MAX_POINTS = 200

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Target:
    """One object: a box (x0, y0, x1, y1), points (x, y, label: 1 inside, 0 outside), or both; pixels of the picture."""

    box: Box | None = None
    points: tuple[tuple[float, float, int], ...] = ()


@dataclass(frozen=True)
class Prompts:
    """What is drawn on one slice.

    Args:
        targets: the objects, in the order they were drawn.
        selected: index of the one whose figures are shown, -1 for none.
        revision: the component's count of changes.
    """

    targets: tuple[Target, ...] = ()
    selected: int = -1
    revision: int = 0

    def document(self) -> dict[str, Any]:
        """As the component takes them back."""
        objects = [
            {
                "box": None if target.box is None else list(target.box),
                "points": [{"x": x, "y": y, "label": label} for x, y, label in target.points],
            }
            for target in self.targets
        ]
        return {"objects": objects, "revision": self.revision}


def _target(document: Any, shape: tuple[int, int], number: int) -> Target:
    if type(document) is not dict or type(document.get("points")) is not list:
        raise InputError(f"Object {number} is not understood; draw it again.")
    box, given = document.get("box"), document["points"]
    if len(given) > MAX_POINTS:
        raise InputError(f"Object {number} has {len(given)} points; the limit is {MAX_POINTS}.")
    corners = None if box is None else checked_box(box, shape)
    if any(type(point) is not dict for point in given):
        raise InputError(f"Object {number} is not understood; draw it again.")
    points: tuple[tuple[float, float, int], ...] = ()
    if given:
        places = [(point.get("x"), point.get("y")) for point in given]
        checked, labels = checked_points(places, [point.get("label") for point in given], shape)
        points = tuple((float(x), float(y), int(label)) for (x, y), label in zip(checked, labels, strict=True))
    if corners is None:
        return Target(None, points)
    x0, y0, x1, y1 = (float(value) for value in corners)
    return Target((x0, y0, x1, y1), points)


def parse(document: Any, shape: tuple[int, int]) -> Prompts:
    """The prompts in what the component sent, for a picture of ``shape`` (height, width).

    Raises:
        InputError: for anything but boxes and points inside the picture, or too many of them.
    """
    if type(document) is not dict or type(document.get("objects")) is not list:
        raise InputError("The prompts are not understood; draw them again.")
    objects, revision, selected = document["objects"], document.get("revision"), document.get("selected")
    if len(objects) > MAX_OBJECTS:
        raise InputError(f"There are {len(objects)} objects on one slice; the limit is {MAX_OBJECTS}.")
    targets = tuple(_target(one, shape, number) for number, one in enumerate(objects, start=1))
    if type(revision) is not int or type(selected) is not int:
        raise InputError("The prompts are not understood; draw them again.")
    return Prompts(targets, selected if 0 <= selected < len(targets) else len(targets) - 1, revision)
