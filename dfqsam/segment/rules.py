"""How far an object is followed through a stack."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Propagation:
    least_pixels: int = 8
    least_share: float = 0.02
    least_quality: float = 0.4
    least_overlap: float = 0.5
    most_growth: float = 2.0
    margin: float = 1.0
    margin_share: float = 0.0
