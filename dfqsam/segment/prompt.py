"""What is asked of a study: a box or clicks on a slice, with the label of the object."""

from __future__ import annotations

from dataclasses import dataclass, field

from dfqsam.imaging import Plane

Box = tuple[float, float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Prompt:
    """A box around one object on one slice, clicks on it, or both.

    Args:
        box: x0, y0, x1, y1 in pixels of the slice as its plane shows it; 0 <= x0 < x1 <= width, likewise y. None where
            there are clicks.
        slice: counted from 0 as the volume stores them; None where the study has one slice only.
        plane: stored, axial, coronal or sagittal; None for the volume's natural plane, or the stored
            one where there is one slice.
        label: of the object in the mask, 1 to 65535.
        name: of the object, for people and for DICOM SEG; empty for ``label N``.
        propagate: whether the object is followed through the stack, or segmented on this slice alone.
        first: no slice below this one is touched; None for no such limit.
        last: no slice above this one is touched.
        points: clicks, (x, y) in pixels of the same slice; 0 <= x <= width, likewise y.
        inside: for each click, whether it is on the object or beside it.
        origin: where the prompt was read, for messages, such as ``boxes.csv, line 3``.
    """

    box: Box | None
    slice: int | None = None
    plane: Plane | None = None
    label: int = 1
    name: str = ""
    propagate: bool = True
    first: int | None = None
    last: int | None = None
    origin: str = field(default="", compare=False)
    points: tuple[Point, ...] = ()
    inside: tuple[bool, ...] = ()
