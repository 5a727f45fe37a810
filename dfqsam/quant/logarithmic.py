"""The log-sqrt2 grid for softmax outputs: pure maths on tensors.

Source: RepQ-ViT (Li et al., ICCV 2023), section 3.3, as DFQ-SAM uses it. Attention behind a softmax spans many orders
of magnitude and is mostly near 0; in steps of half a power of two, neighbouring values have the same ratio everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Shares of the values that the largest one may leave above itself; 0 cuts nothing off.
TAILS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
SEARCHED = 1 << 16


@dataclass(frozen=True)
class LogSqrt2:
    """Values scale * 2^(-code / 2), code in 0 … 2^bits - 1, and 0.

    Attributes:
        scale: the largest value, positive.
        bits: 2 to 8.
    """

    scale: float
    bits: int


def fake_quantize_log(x: Tensor, grid: LogSqrt2) -> Tensor:
    """Non-negative x on the grid, same shape: code = round(-2 log2(x / scale)), and 0 where the code is too large.

    With scale 1 and 2 bits (codes 0 to 3; the values 1, 0.7071, 0.5, 0.3536 and 0): x = 0.3 has -2 log2(0.3) = 3.47,
    code 3, and becomes 2^(-1.5) = 0.3536; x = 0.26 has 3.89, code 4, which is beyond the last, and becomes 0.

    >>> fake_quantize_log(torch.tensor([2.0, 1.0, 0.7, 0.5, 0.3, 0.26, 0.0]), LogSqrt2(1.0, 2))
    tensor([1.0000, 1.0000, 0.7071, 0.5000, 0.3536, 0.0000, 0.0000])
    """
    codes = (-2 * torch.log2(x.clamp_min(1e-30) / grid.scale)).round().clamp_min(0)
    values = grid.scale * torch.exp2(-codes / 2)
    return torch.where(codes > 2**grid.bits - 1, torch.zeros_like(values), values)


def search_log_scale(values: Tensor, bits: int) -> LogSqrt2:
    """The grid for ``values`` (any shape, non-negative) with the least squared error, over the percentiles of
    ``TAILS`` as its largest value."""
    ordered = values.flatten().float().sort().values
    last = len(ordered) - 1
    sample = torch.cat([ordered[:: max(1, len(ordered) // SEARCHED)], ordered[-1:]])
    tops = {max(float(ordered[last - round(tail * last)]), 1e-12) for tail in TAILS}
    grids = [LogSqrt2(top, bits) for top in sorted(tops, reverse=True)]
    return min(grids, key=lambda grid: float((fake_quantize_log(sample, grid) - sample).square().mean()))
