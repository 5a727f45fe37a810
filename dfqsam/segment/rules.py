"""How far an object is followed through a stack."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Propagation:
    """When a mask is not taken any more, and how much wider than a mask the box on the next slice is.

    The values are the middle of what was level when LiteMedSAM at w8a8 followed 16 structures of two spinal-cord MR
    volumes and a CT of the abdomen (those that the model finds from exact boxes on every slice, Dice 0.7 or better)
    from one exact box in their middle slice. Mean volumetric Dice was 0.80; 0.76 without any rule but an empty mask;
    0.85 with exact boxes on every slice. What rules do on volumes that they were not chosen on, and where they fail, is
    in docs/studies.md and measured by :mod:`dfqsam.segment.measured`. Three patients: other organs and scanners may
    want other values.

    Args:
        least_pixels: a smaller mask is none.
        least_share: as is one smaller than this part of the object where it was largest. 0 to 0.15 give the same.
        least_quality: least estimate of its IoU by the model. 0.5 to 0.6 is best, 0.8 stops inside of objects (0.75).
        least_overlap: least Dice with the mask on the slice before. 0.6 to 0.65 is best; 0.8 loses a tenth.
        most_growth: most by which the area may grow or shrink from slice to slice. From 2.5 on the same; 1.5 loses a
            tenth.
        margin: pixels by which the box is wider on each side. What matters most: masks shrink from slice to slice
            when the box is tight (0: Dice 0.48, 1: 0.76, 2: 0.80; more was not measured).
        margin_share: least of the same, as part of the picture's longer side, for pictures finer than the ones above
            (up to 122 pixels a side): 4 of the 256 pixels that the model sees.
    """

    least_pixels: int = 8
    least_share: float = 0.1
    least_quality: float = 0.55
    least_overlap: float = 0.6
    most_growth: float = 2.5
    margin: float = 2.0
    margin_share: float = 1 / 64
