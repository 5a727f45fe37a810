"""One activation scale for each channel, for depthwise convolutions: pure maths on tensors.

In a depthwise convolution each channel meets only its own filter, so that x / d with one grid for the whole tensor and
filters times d is exact, and every channel uses the whole grid. The zero point stays common to all channels and on the
grid: the zeros that a convolution pads with must be exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfqsam.quant.grid import Affine, fake_quantize
from dfqsam.quant.ranges import search_range

# Share of its whole range that a channel's grid may cover; less cuts tails off and resolves the rest more finely.
SHRINK = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def channel_scales(low: Tensor, high: Tensor, zero_point: int, bits: int) -> Tensor:
    """The least scale of each channel with which [low, high] (C each, low <= 0 <= high) fits around ``zero_point``; C.

    An end that the grid has no codes for (``zero_point`` is its first or last code) is cut off.

    >>> channel_scales(torch.tensor([-1.0, -4.0]), torch.tensor([4.0, 1.0]), 1, 2)  # codes -1, 0, 1, 2
    tensor([2., 4.])
    """
    last = 2**bits - 1
    below = -low / zero_point if zero_point else torch.zeros_like(low)
    above = high / (last - zero_point) if zero_point < last else torch.zeros_like(high)
    return torch.maximum(below, above).clamp_min(1e-12)


def search_channels(values: Tensor, bits: int) -> tuple[Tensor, Affine]:
    """Divisors (C, positive) and the grid for ``values / divisors`` with the least squared error on ``values``.

    The zero point is the one whose whole ranges round most finely (a uniform error has the variance scale² / 12); then
    each channel's range is searched, with every value: a few outliers, cut off, can err more than all rounding. The
    best grid for the whole tensor is among the candidates.

    Args:
        values: rows x C.
        bits: 2 to 8.
    """
    values = values.float()
    low, high = values.amin(0).clamp_max(0), values.amax(0).clamp_min(0)
    whole = search_range(values, bits)
    # A channel that the sample shows nothing of must not blow up what another picture shows.
    least = 1e-4 * whole.scale

    def errors(scale: Tensor, zero_point: int) -> Tensor:
        grid = Affine(1.0, zero_point, bits)
        return (fake_quantize(values / scale, grid) * scale - values).square().sum(0)

    def ends_cut(zero_point: int) -> float:
        full = channel_scales(low, high, zero_point, bits)
        codes = 2**bits - 1
        lost = (-low - zero_point * full).clamp_min(0).square() + (high - (codes - zero_point) * full).clamp_min(
            0
        ).square()
        return float((full.square() / 12 + lost).sum())

    zero_point = min(range(2**bits), key=ends_cut)
    full = channel_scales(low, high, zero_point, bits).clamp_min(least)
    scales = torch.stack([full * shrink for shrink in SHRINK])
    found = torch.stack([errors(scale, zero_point) for scale in scales])
    best, scale = found.amin(0), scales.gather(0, found.argmin(0, keepdim=True))[0]
    common = torch.full_like(full, whole.scale)
    if float(errors(common, whole.zero_point).sum()) < float(best.sum()):
        scale, zero_point = common, whole.zero_point
    step = float(scale.median())  # any; with this one the divisors lie around 1
    return scale / step, Affine(step, zero_point, bits)
