"""A grid for each channel of what enters a layer: pure maths on tensors.

(x - c) / d with one grid for the whole tensor, weights times d and a bias that makes up for c are exact
(:class:`dfqsam.quant.rescaling.Rescaling`), and every channel uses the whole grid. In a depthwise convolution each
channel meets only its own filter, whose scale takes d up. In a matrix the columns of the weights grow uneven by it
(SmoothQuant, arXiv 2211.10438, section 4), so that what is won on activations is weighed against that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dfqsam.quant.gptq import gptq, weighted_error
from dfqsam.quant.grid import WHOLE, Affine, fake_quantize, weight_codes, weight_scales
from dfqsam.quant.ranges import search_range
from dfqsam.quant.rescaling import Rescaling

# Share of its whole range that a channel's grid may cover; less cuts tails off and resolves the rest more finely.
SHRINK = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
# Share of the way from a channel's middle to its end that a grid of its own may cover.
REACH = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
# Of the spread of channels that a matrix may take up; the less, the evener its weights stay.
POWERS = (1.0, 0.75, 0.5, 0.25)
WORTH = 0.9  # a division has to leave less than this share of the error, for it costs time on the device
JUDGED = 8192  # rows that rescalings for a matrix are judged on


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


def search_scales(values: Tensor, bits: int) -> tuple[Rescaling, Affine]:
    """Divisors alone, and the grid for ``values / divisors`` with the least squared error on ``values``; all channels
    have one zero point.

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
    return Rescaling(torch.zeros_like(scale), scale / step), Affine(step, zero_point, bits)


def search_channels(values: Tensor, bits: int, zero: bool) -> tuple[Rescaling, Affine]:
    """What gives each channel of ``values`` the scale and the zero point that suit it best, and the grid for all of it.

    At eight bits a channel's grid covers all that it was seen to reach: a finer step would win little, and what another
    picture brings is cut off. With fewer, each channel's two ends are searched in turn, by the squared error.

    Args:
        values: rows x C.
        bits: 2 to 8.
        zero: whether zero must be a code in every channel, as a convolution that pads with it needs.
    """
    values, last = values.float(), 2**bits - 1
    middle = torch.zeros_like(values[0]) if zero else values.mean(0)
    below, above = middle - torch.minimum(values.amin(0), middle), torch.maximum(values.amax(0), middle) - middle
    # A channel that the sample shows nothing of must not blow up what another picture shows.
    least = 1e-4 * search_range(values, bits).scale

    def grids(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        step = ((high * above + low * below) / last).clamp_min(least)
        bottom = middle - low * below
        return step, -(-bottom / step).round().clamp(0, last) * step if zero else bottom

    def errors(low: Tensor, high: Tensor) -> Tensor:
        step, bottom = grids(low, high)
        codes = (values - bottom).div_(step).round_().clamp_(0, last)
        return codes.mul_(step).add_(bottom).sub_(values).square_().sum(0)

    low, high = torch.ones_like(middle), torch.ones_like(middle)
    found = errors(low, high)
    for end in ("high", "low", "high") if bits < WHOLE else ():
        for share in REACH:
            reach = torch.full_like(middle, share)
            other = errors(low, reach) if end == "high" else errors(reach, high)
            better = other < found
            found = torch.where(better, other, found)
            if end == "high":
                high = torch.where(better, reach, high)
            else:
                low = torch.where(better, reach, low)
    step, bottom = grids(low, high)
    common = float(step.median())  # any; with this one the divisors lie around 1
    zero_point = 2 ** (bits - 1)
    return Rescaling(bottom + zero_point * step, step / common), Affine(common, zero_point, bits)


@dataclass(frozen=True)
class Matrix:
    """A matrix and a sample of its inputs, for judging rescalings by the squared error of the outputs: that of rounded
    activations and that of rounded weights together.

    Attributes:
        weight: N x K.
        values: rows x K, at most :data:`JUDGED` rows (:meth:`of` picks them).
        weight_bits, activation_bits: 2 to 8.
        compensated: whether the weights will be compensated (:mod:`dfqsam.quant.compensate`), which mends uneven
            columns so well that more can be moved into them.
    """

    weight: Tensor
    values: Tensor
    weight_bits: int
    activation_bits: int
    compensated: bool = True

    @classmethod
    def of(cls, weight: Tensor, values: Tensor, bits: tuple[int, int], compensated: bool = True) -> Matrix:
        """With rows spread evenly over ``values`` (any number of rows x K); ``bits`` are of weights and activations."""
        rows = torch.linspace(0, len(values) - 1, min(len(values), JUDGED)).long()
        return cls(weight, values[rows].float(), *bits, compensated)

    def error(self, change: Rescaling, grid: Affine) -> float:
        """Variance of the error, summed over outputs, with inputs that ``change`` has made alike rounded to ``grid``;
        mean errors do not count, for biases take them up."""
        seen = change.apply(self.values)
        wrong = (fake_quantize(seen, grid) - seen) * change.ratio
        activations = float((wrong @ self.weight.T).var(0, correction=0).sum())
        scaled = (self.weight * change.ratio)[None]
        seen = seen - seen.mean(0)
        moment = (seen.T @ seen / len(seen))[None]
        scale = weight_scales(scaled[0], self.weight_bits, pairs=True)
        if self.compensated:
            codes = gptq(scaled, moment, scale[None], self.weight_bits, pairs=True)
        else:
            codes = weight_codes(scaled[0], scale, self.weight_bits, pairs=True)[None]
        return activations + float(weighted_error(codes * scale[:, None] - scaled, moment).sum())


def search_rescaling(matrix: Matrix, values: Tensor) -> tuple[Rescaling | None, Affine]:
    """What to do to the inputs of ``matrix``, and the grid for them then; None and the grid for ``values`` as they are
    where nothing is worth it.

    At eight bits inputs are divided only: moving them first costs the device a pass over them and gains nothing
    (LiteMedSAM, w8a8, 151 masks: 98.3 / 0.071 with divisors alone, 98.0 / 0.079 with zero points of channels too). With
    fewer bits channels get zero points of their own.

    Args:
        values: rows x K, to search ranges in.
    """
    values, bits = values.float(), matrix.activation_bits
    best, grid = None, search_range(values, bits)
    nothing = Rescaling(torch.zeros_like(values[0]), torch.ones_like(values[0]))
    least = WORTH * matrix.error(nothing, grid)
    whole, own = search_scales(values, bits) if bits >= WHOLE else search_channels(values, bits, zero=False)
    for power in POWERS:
        change = Rescaling(whole.center, whole.ratio**power)
        candidate = own if power == 1 else search_range(change.apply(values), bits)
        found = matrix.error(change, candidate)
        if found < least:
            best, grid, least = change, candidate, found
    return best, grid


def search_strength(matrix: Matrix, change: Rescaling) -> Rescaling:
    """``change`` with the power of its ratio, 0 to 1, that is best for ``matrix`` where it costs nothing. With fine
    activations and coarse weights that is low, the other way round high."""

    def error(candidate: Rescaling) -> float:
        return matrix.error(candidate, search_range(candidate.apply(matrix.values), matrix.activation_bits))

    return min((Rescaling(change.center, change.ratio**power) for power in (*POWERS, 0.0)), key=error)
