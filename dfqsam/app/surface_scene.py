"""What the surface component is told of the masks of a volume. Pure functions."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.app import whole
from dfqsam.app.display import FULL, QUANTIZED
from dfqsam.app.surface import packed, round_up, surfaces
from dfqsam.imaging import Volume

# From agreement to distance: told apart by lightness and by hue, whatever one's sight.
APART = ("#d9d9d9", "#f0e442", "#d55e00")
HINT = "Drag to turn, wheel or + and - to zoom, arrow keys to turn. Surfaces are smoothed: a preview, not to measure."


def surface_scene(volume: Volume, masks: NDArray[np.uint8], has_full: bool, study: str) -> dict[str, Any] | None:
    """All that the component needs, as JSON; None where both masks are empty.

    Args:
        volume: gives mm and the patient's orientation.
        masks: S x R x C, as :func:`dfqsam.app.whole.bits` makes them.
        has_full: whether there is a full-precision model.
        study: names what is looked at; another one starts unturned.
    """
    quantized = (masks & whole.QUANTIZED_BIT) > 0
    full = (masks & whole.FULL_BIT) > 0 if has_full else None
    mine, other = surfaces(volume, quantized, full)
    there = [mesh for mesh in (mine, other) if mesh is not None]
    if not there:
        return None
    points = np.concatenate([mesh.vertices for mesh in there])
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = float(np.linalg.norm(points - centre, axis=1).max())
    unit = "px" if volume.spacing is None else "mm"
    panels: list[dict[str, Any]] = [
        {
            "title": "Quantized",
            "legend": [[QUANTIZED, "mask"]],
            "colour": QUANTIZED,
            "mesh": None if mine is None else packed(mine, centre, radius),
        }
    ]
    if has_full:
        mesh = None if other is None else packed(other, centre, radius)
        panels.insert(0, {"title": "Full precision", "legend": [[FULL, "mask"]], "colour": FULL, "mesh": mesh})
    if mine is not None and mine.apart is not None:
        # What is below two pixels says more of the grid than of the models.
        pixel = 1.0 if volume.spacing is None else max(volume.spacing[1:])
        most = round_up(max(float(np.percentile(mine.apart, 99)), 2 * pixel))
        words = ["0", f"{most / 2:g}", f"{most:g} {unit} or more"]
        panels.append(
            {
                "title": "Distance to full",
                "legend": [[colour, word] for colour, word in zip(APART, words, strict=True)],
                "ramp": list(APART),
                "colour": QUANTIZED,
                "mesh": packed(mine, centre, radius, most),
            }
        )
    return {
        "panels": panels,
        "radius": radius,
        "patient": volume.affine is not None,
        "unit": unit,
        "study": study,
        "key": hashlib.blake2b(repr(panels).encode(), digest_size=16).hexdigest(),
        "hint": HINT,
    }
