"""The ladder from plain rounding upwards, by name: what each rung sets, whatever a column's defaults are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dfqsam.config import PRESETS, QuantConfig
from dfqsam.errors import InputError

CORRECTED = "corrected"  # what calibration sources are compared at
MIXED = "mixed"  # nothing new for columns whose layers all have the same bits
# Each adds one thing to the one before it; reparameterization is a dimension of its own.
RUNGS: dict[str, dict[str, Any]] = {
    "nearest": {"channel_scales": False, "passes": (), "file_share": None},
    CORRECTED: {"channel_scales": False, "passes": PRESETS["plain"], "file_share": None},
    "channel-scales": {"channel_scales": True, "passes": PRESETS["plain"], "file_share": None},
    "depthwise": {"channel_scales": True, "passes": ("ranges", "depthwise", "biases"), "file_share": None},
    "weights": {"channel_scales": True, "passes": PRESETS["fast"], "file_share": None},
    MIXED: {"channel_scales": True, "passes": PRESETS["fast"]},
    "blocks": {"channel_scales": True, "passes": PRESETS["best"]},
    "distillation": {"channel_scales": True, "passes": PRESETS["distilled"]},
    "blocks+distillation": {
        "channel_scales": True,
        "passes": ("ranges", "depthwise", "weights", "blocks", "distillation", "biases"),
    },
}
TITLES = {
    "nearest": "round to nearest",
    CORRECTED: "+ ranges of the stem, biases",
    "channel-scales": "+ channel scales",
    "depthwise": "+ depthwise scales judged by the filters",
    "weights": "+ compensated weights",
    MIXED: "+ layers that matter most at 8 bits",
    "blocks": "+ blocks reconstructed",
    "distillation": "weights + distillation",
    "blocks+distillation": "+ both",
}


def config_of(column: str, rung: str, reparameterize: str | None) -> QuantConfig:
    """The settings ``column`` (see :meth:`QuantConfig.of`) on a rung.

    Raises:
        InputError: for an unknown name.
    """
    if rung not in RUNGS:
        raise InputError(f"There is no rung {rung!r}; choose among {', '.join(RUNGS)}.")
    return replace(QuantConfig.of(column), reparameterize=reparameterize, **RUNGS[rung])
