"""Logarithmic grids for softmax outputs: pure maths on tensors.

Source: RepQ-ViT (Li et al., ICCV 2023), section 3.3, as DFQ-SAM uses it, with two steps an octave: the log-sqrt2 grid.
Attention behind a softmax spans many orders of magnitude and is mostly near 0; on such a grid neighbouring values have
the same ratio everywhere. That ratio is no finer with more bits, they only reach further down: with 8 bits log-sqrt2
ends at 2^-127 and is still up to 19 % off everywhere. So the number of steps an octave is searched too, as AdaLog (Wu
et al., ECCV 2024) does with the base of the logarithm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

SQRT2 = (2,)
OCTAVES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
# Shares of the values that the largest one may leave above itself; 0 cuts nothing off.
TAILS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
SEARCHED = 1 << 16


@dataclass(frozen=True)
class Logarithmic:
    """Values scale * 2^(-code / octave), code in 0 … 2^bits - 1, and 0.

    Attributes:
        scale: the largest value, positive.
        bits: 2 to 8.
        octave: steps from a value to its half, at least 1.
    """

    scale: float
    bits: int
    octave: int = 2


def fake_quantize_log(x: Tensor, grid: Logarithmic) -> Tensor:
    """Non-negative x on the grid, same shape: code = round(-octave log2(x / scale)), and 0 where the code is too large.

    With scale 1, 2 bits and two steps an octave (codes 0 to 3; the values 1, 0.7071, 0.5, 0.3536 and 0): x = 0.3 has
    -2 log2(0.3) = 3.47, code 3, and becomes 2^(-1.5) = 0.3536; x = 0.26 has 3.89, code 4, which is beyond the last, and
    becomes 0.

    >>> fake_quantize_log(torch.tensor([2.0, 1.0, 0.7, 0.5, 0.3, 0.26, 0.0]), Logarithmic(1.0, 2))
    tensor([1.0000, 1.0000, 0.7071, 0.5000, 0.3536, 0.0000, 0.0000])
    """
    codes = (-grid.octave * torch.log2(x.clamp_min(1e-30) / grid.scale)).round().clamp_min(0)
    values = grid.scale * torch.exp2(-codes / grid.octave)
    return torch.where(codes > 2**grid.bits - 1, torch.zeros_like(values), values)


def search_log_grid(values: Tensor, bits: int, octaves: Iterable[int] = OCTAVES) -> Logarithmic:
    """The grid for ``values`` (any shape, non-negative) with the least squared error, over the percentiles of
    ``TAILS`` as its largest value and over ``octaves``."""
    ordered = values.flatten().float().sort().values
    last = len(ordered) - 1
    sample = torch.cat([ordered[:: max(1, len(ordered) // SEARCHED)], ordered[-1:]])
    tops = {max(float(ordered[last - round(tail * last)]), 1e-12) for tail in TAILS}
    grids = [Logarithmic(top, bits, octave) for top in sorted(tops, reverse=True) for octave in octaves]
    return min(grids, key=lambda grid: float((fake_quantize_log(sample, grid) - sample).square().mean()))
