"""Range search for activations: the percentiles of a sample whose grid has the least squared error."""

from __future__ import annotations

import torch
from torch import Tensor

from dfqsam.quant.grid import Affine, affine, fake_quantize

# Share of the sample that each end may cut off. A range without any clipping is always among the candidates.
TAILS = (0.0, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SEARCHED = 1 << 16


def _quantiles(ordered: Tensor, shares: tuple[float, ...]) -> list[float]:
    last = len(ordered) - 1
    return [float(ordered[min(round(share * last), last)]) for share in shares]


def search_range(values: Tensor, bits: int) -> Affine:
    """The affine grid for ``values`` (any shape) whose rounding and clipping error is least.

    The two ends are searched in turn over the percentiles of ``TAILS`` (RepQ-ViT and DFQ-SAM search a few symmetric
    pairs only).
    """
    ordered = values.flatten().float().sort().values
    lows = _quantiles(ordered, TAILS)
    highs = _quantiles(ordered.flip(0), TAILS)
    # Every k-th of the sorted values is a faithful sample of the distribution, tails included.
    sample = ordered[:: max(1, len(ordered) // SEARCHED)]
    sample = torch.cat([sample, ordered[-1:]])

    def error(low: float, high: float) -> float:
        return float((fake_quantize(sample, affine(low, high, bits)) - sample).square().mean())

    high = min(highs, key=lambda value: error(lows[0], value))
    low = min(lows, key=lambda value: error(value, high))
    high = min(highs, key=lambda value: error(low, value))
    return affine(low, high, bits)


def channel_ranges(values: Tensor, tail: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Lower and upper end of each channel of ``values`` (rows x C) with ``tail`` of the rows cut off each side; C."""
    count = len(values)
    cut = min(int(tail * count), (count - 1) // 2)
    ordered = values.sort(dim=0).values
    return ordered[cut], ordered[count - 1 - cut]
