"""Scale reparameterization: ranges that differ from channel to channel are made equal, exactly.

Source: RepQ-ViT (Li et al., ICCV 2023), section 3.2, derived again: the LayerNorm output y becomes
y' = (y - center) / r, absorbed by the norm's gain and bias, and undone in the layer that reads it: W' = W diag(r),
b' = b + W center. A grid for the whole tensor y' then resolves every channel as a grid of its own would.

With per-channel grids (s, z) and one target (s~, z~) for all, r = s / s~ and center = s (z~ - z): the codes of y' on
the target grid are those of y on its own. The target scale s~ is a factor of the whole tensor, which the scales of the
weights take up, so that mean, median and trimmed mean differ in the zero point only; ``center`` puts it in the middle.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfqsam.quant.ranges import channel_ranges
from dfqsam.quant.rescaling import Rescaling

MAD_TO_DEVIATION = 1.4826  # of a Gaussian
TRIM = 3.0  # deviations from the median that a trimmed mean keeps


def target_of(values: Tensor, kind: str) -> float:
    """The ``mean``, ``median`` or MAD-trimmed mean (``mad``) of C values.

    >>> [target_of(torch.tensor([1.0, 2.0, 3.0, 100.0]), kind) for kind in ("mean", "median", "mad")]
    [26.5, 2.0, 2.0]
    """
    if kind == "mean":
        return float(values.mean())
    median = values.median()
    if kind == "median":
        return float(median)
    distance = (values - median).abs()
    return float(values[distance <= TRIM * MAD_TO_DEVIATION * distance.median() + 1e-12].mean())


def channel_grids(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and integer zero point of each channel whose values lie in [low, high] (C each).

    A channel that never comes near 0 gets a zero point outside 0 … 2^bits - 1.
    """
    scale = ((high - low) / (2**bits - 1)).clamp_min(1e-8)
    return scale, (-low / scale).round()


def rescaling(values: Tensor, target: str, bits: int, shifts: bool) -> Rescaling:
    """How ``values`` (rows x C) are made alike; without ``shifts`` zero stays zero."""
    low, high = channel_ranges(values)
    if not shifts or target == "center":
        center = (low + high) / 2 if shifts else torch.zeros_like(low)
        reach = torch.maximum(high - center, center - low).clamp_min(1e-6)
        return Rescaling(center, reach / reach.mean())
    scale, zero = channel_grids(low, high, bits)
    # On the grid, so that zero of y' is a code.
    common = min(max(round(target_of(zero, target)), 0), 2**bits - 1)
    return Rescaling(scale * (common - zero), scale / target_of(scale, target))


def moves_zero(reader: nn.Linear | nn.Conv2d) -> bool:
    """Whether what ``reader`` reads may be shifted. A convolution that pads cannot have that: its zeros are zeros."""
    return isinstance(reader, nn.Linear) or not any(int(p) for p in reader.padding)


@torch.no_grad()
def reparameterize(norm: nn.LayerNorm, reader: nn.Linear | nn.Conv2d, change: Rescaling) -> None:
    """Makes ``norm`` give what ``change`` says and ``reader`` undo it, in place; what they compute together stays.

    Args:
        norm: feeds ``reader`` and nothing else.
        reader: a Linear, or a convolution.
        change: without a shift where :func:`moves_zero` says so.
    """
    if moves_zero(reader):
        matrix = reader.weight if isinstance(reader, nn.Linear) else reader.weight.sum((2, 3))
        shift = matrix @ change.center
        bias = shift if reader.bias is None else reader.bias + shift
        reader.bias = nn.Parameter(bias, requires_grad=False)
    reader.weight.mul_(change.ratio.reshape(1, -1, *[1] * (reader.weight.dim() - 2)))
    norm.weight.div_(change.ratio)
    norm.bias.sub_(change.center).div_(change.ratio)
