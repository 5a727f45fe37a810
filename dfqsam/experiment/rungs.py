"""The ladder from plain rounding upwards, by name: what each rung sets, whatever a column's defaults are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dfqsam.config import PRESETS, QuantConfig
from dfqsam.errors import InputError

CORRECTED = "corrected"  # what calibration sources are compared at
DEPTHWISE = "depthwise"
SOFTMAX = "softmax"
EVENED = "evened"
MIXED = "mixed"
# Each adds one thing to the one before it; reparameterization is a dimension of its own.
PAPER = {"softmax": "sqrt2", "evened": False}  # attention products as the paper has them
RUNGS: dict[str, dict[str, Any]] = {
    "nearest": {**PAPER, "channel_scales": False, "passes": (), "file_share": None},
    CORRECTED: {**PAPER, "channel_scales": False, "passes": PRESETS["plain"], "file_share": None},
    "channel-scales": {**PAPER, "passes": PRESETS["plain"], "file_share": None},
    DEPTHWISE: {**PAPER, "passes": ("ranges", "depthwise", "biases"), "file_share": None},
    SOFTMAX: {"evened": False, "passes": ("ranges", "depthwise", "biases"), "file_share": None},
    EVENED: {"passes": ("ranges", "depthwise", "biases"), "file_share": None},
    "weights": {"passes": PRESETS["fast"], "file_share": None},
    MIXED: {"passes": PRESETS["fast"]},
    "blocks": {"passes": PRESETS["best"]},
    "distillation": {"passes": PRESETS["distilled"]},
    "blocks+distillation": {"passes": ("ranges", "depthwise", "weights", "blocks", "biases", "distillation")},
    "decoder": {"passes": PRESETS["taught"]},
}
TITLES = {
    "nearest": "round to nearest",
    CORRECTED: "+ ranges of the stem, biases",
    "channel-scales": "+ channel scales",
    DEPTHWISE: "+ depthwise scales judged by the filters",
    SOFTMAX: "+ steps of softmax grids fitted to their bits",
    EVENED: "+ queries, keys and values evened",
    "weights": "+ compensated weights",
    MIXED: "+ layers that matter most at 8 bits",
    "blocks": "+ blocks reconstructed",
    "distillation": "weights + distillation",
    "blocks+distillation": "+ both",
    "decoder": "weights + the decoder taught to read them",
}

# Of columns that a rung changes nothing for.
FLOAT_PRODUCTS = "whose attention products are in floating point"
IDLE = {
    MIXED: "whose layers all have the same bits",
    DEPTHWISE: "whose depthwise filters are in floating point",
    SOFTMAX: FLOAT_PRODUCTS,
    EVENED: FLOAT_PRODUCTS,
}


def config_of(column: str, rung: str, reparameterize: str | None) -> QuantConfig:
    """The settings ``column`` (see :meth:`QuantConfig.of`) on a rung.

    Raises:
        InputError: for an unknown name.
    """
    if rung not in RUNGS:
        raise InputError(f"There is no rung {rung!r}; choose among {', '.join(RUNGS)}.")
    return replace(QuantConfig.of(column), reparameterize=reparameterize, **RUNGS[rung])


def adds(rung: str, config: QuantConfig) -> bool:
    """Whether ``rung`` changes anything for a column with these settings; see :data:`IDLE`."""
    new = {
        MIXED: config.file_share is not None,
        DEPTHWISE: config.depthwise == "integer",
        SOFTMAX: config.products,
        EVENED: config.products,
    }
    return new.get(rung, True)
