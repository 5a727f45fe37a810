"""The calibration sources that an experiment compares, by name."""

from __future__ import annotations

from typing import Any

from dfqsam.config import SynthesisConfig
from dfqsam.errors import InputError

REAL = "real"
# What sets each source apart from the defaults of SynthesisConfig; the ablations of DFQ-SAM go from little to much.
SYNTHETIC: dict[str, dict[str, Any]] = {
    "noise": {"method": "noise"},
    "shapes": {"method": "shapes"},
    "psaq": {"method": "psaq"},
    "dfqsam-no-evolution": {"method": "dfqsam", "evolve": False, "batch_norm": False},
    "dfqsam": {"method": "dfqsam", "batch_norm": False},
    "dfqsam-bn": {"method": "dfqsam", "batch_norm": True},
    "dfqsam-bn-attention": {"method": "dfqsam", "batch_norm": True, "attention": True},
}
ROWS = (*SYNTHETIC, REAL)


def synthesis_of(row: str, images: int, seed: int) -> SynthesisConfig | None:
    """How the images of a row are made; None for ``real``, whose pictures are read.

    Raises:
        InputError: for an unknown row, or fewer than one image.
    """
    if row not in ROWS:
        raise InputError(f"There is no calibration source {row!r}; choose among {', '.join(ROWS)}.")
    if images < 1:
        raise InputError(f"{images} calibration images were asked for; give at least 1.")
    return None if row == REAL else SynthesisConfig(images=images, seed=seed, **SYNTHETIC[row])
