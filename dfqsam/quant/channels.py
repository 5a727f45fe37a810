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
SHRINK = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
ZERO_POINTS = 16  # parts of the grid whose ends are tried
SEARCHED = 1 << 16


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

    The best grid for the whole tensor is among the candidates.

    Args:
        values: rows x C.
        bits: 2 to 8.
    """
    rows = max(1, SEARCHED // values.shape[1])
    sample = values[:: max(1, len(values) // rows)].float()
    low, high = values.amin(0).float().clamp_max(0), values.amax(0).float().clamp_min(0)
    whole = search_range(sample, bits)
    codes = 2**bits - 1
    zero_points = {round(codes * i / ZERO_POINTS) for i in range(ZERO_POINTS + 1)} | {whole.zero_point}
    found, least = None, float("inf")
    for zero_point in sorted(zero_points):
        grid = Affine(1.0, zero_point, bits)
        # A channel that the sample shows nothing of must not blow up what another picture shows.
        full = channel_scales(low, high, zero_point, bits).clamp_min(1e-4 * whole.scale)
        scales = [full * shrink for shrink in SHRINK]
        if zero_point == whole.zero_point:
            scales.append(torch.full_like(full, whole.scale))
        errors = torch.stack([(fake_quantize(sample / s, grid) * s - sample).square().sum(0) for s in scales])
        total = float(errors.amin(0).sum())
        if total < least:
            best = torch.stack(scales).gather(0, errors.argmin(0, keepdim=True))[0]
            found, least = (best, zero_point), total
    assert found is not None
    scale, zero_point = found
    step = float(scale.median())  # any; with this one the divisors lie around 1
    return scale / step, Affine(step, zero_point, bits)
