"""Uniform integer grids: pure maths on tensors, no modules.

Source: Nagel et al., A White Paper on Neural Network Quantization (2021), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """A grid for activations: value = (code - zero_point) * scale, code in 0 … 2^bits - 1.

    Attributes:
        scale: step, positive.
        zero_point: the code of 0, itself on the grid, so that zero is exact.
        bits: 2 to 8.
    """

    scale: float
    zero_point: int
    bits: int

    @property
    def low(self) -> float:
        """The smallest value of the grid."""
        return -self.zero_point * self.scale

    @property
    def high(self) -> float:
        """The largest value of the grid."""
        return (2**self.bits - 1 - self.zero_point) * self.scale


def affine(low: float, high: float, bits: int) -> Affine:
    """The grid that spans [low, high], widened to hold 0.

    >>> affine(-0.5, 1.0, 2)
    Affine(scale=0.5, zero_point=1, bits=2)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    # One float32 step is what the deployed graph multiplies with; keep exactly that value.
    scale = float(torch.tensor(max((high - low) / (2**bits - 1), 1e-12), dtype=torch.float32))
    zero_point = min(max(round(-low / scale), 0), 2**bits - 1)
    return Affine(scale, zero_point, bits)


def fake_quantize(x: Tensor, grid: Affine) -> Tensor:
    """x rounded (half to even) and clipped to the grid, as floats of the same shape.

    >>> fake_quantize(torch.tensor([-3.0, 0.2, 0.3, 9.0]), Affine(0.5, 1, 2))
    tensor([-0.5000,  0.0000,  0.5000,  1.0000])
    """
    codes = x / grid.scale  # from here on in place: tensors are large, and memory is what this waits for
    codes.round_().clamp_(-grid.zero_point, 2**grid.bits - 1 - grid.zero_point)
    return codes.mul_(grid.scale)


def code_limits(bits: int) -> tuple[int, int]:
    """The smallest and the largest code of a weight.

    Below eight bits every code counts: a scale may be negative, so that the end with one code more lies where the
    larger weights are. At eight bits the code -128 is left out, for it would gain nothing and is unsafe in pairs.

    >>> code_limits(4), code_limits(8)
    ((-8, 7), (-127, 127))
    """
    last = 2 ** (bits - 1) - 1
    return (-last, last) if bits >= WHOLE else (-last - 1, last)


def widest_scales(flat: Tensor, bits: int) -> Tensor:
    """Scale of each row of weights (… x K) with the least magnitude that clips none, negative where the largest weight
    is positive and the grid has one code more below zero."""
    low, high = code_limits(bits)
    most, least = flat.amax(-1).clamp_min(0), (-flat.amin(-1)).clamp_min(0)
    sign = torch.where((most > least) & (-low > high), -1.0, 1.0).to(flat.dtype)
    larger, smaller = torch.maximum(most, least), torch.minimum(most, least)
    return sign * torch.maximum(larger / -low, smaller / high).clamp_min(1e-12)


WHOLE = 8  # bits with which weights are left as they are rounded, see dfqsam.quant.compensate
# How much of the largest weight a scale covers; 1 clips nothing. More than 1 serves pairs only (below).
SHRINK = (1.0, 0.97, 0.94, 0.9, 0.86, 0.82, 0.78, 0.74, 0.7, 0.65, 0.6, 0.55, 0.5)
GROW = (2.0, 1.7, 1.5, 1.3, 1.15)
# What the sum of two neighbouring weights may be: 255 * 128 = 32640 is the last multiple of 255 that int16 holds.
PAIR_LIMIT = 128


def pair_safe(codes: Tensor) -> Tensor:
    """``codes`` (N x K integers, as floats) with every pair of neighbours (0, 1), (2, 3) … summing to at most 128.

    x86 processors without VNNI multiply u8 activations with s8 weights two at a time and add the two products in
    *saturating* 16 bits (vpmaddubsw), which ONNX Runtime's matrix kernels use: 255 * (127 + 2) is cut off, and the
    result is wrong without any message. Where a pair sums to more, both are moved towards zero alike, which is a kind
    of clipping; the same file then gives the same sums on every processor.

    >>> pair_safe(torch.tensor([[127.0, 127.0, 127.0, -90.0, 127.0]]))
    tensor([[ 64.,  64., 127., -90., 127.]])
    """
    whole = codes.shape[1] // 2 * 2
    pairs = codes[:, :whole].unflatten(1, (-1, 2))
    total = pairs.sum(-1, keepdim=True)
    excess = (total.abs() - PAIR_LIMIT).clamp_min(0)
    # The first of a pair takes the odd unit. Both have the sign of their sum, or the excess would be 0.
    share = torch.cat([(excess / 2).ceil(), (excess / 2).floor()], dim=-1)
    return torch.cat([(pairs - total.sign() * share).flatten(1), codes[:, whole:]], dim=1)


def weight_scales(weight: Tensor, bits: int, pairs: bool = False) -> Tensor:
    """Scale of each output channel of ``weight`` (N x …) with the least squared rounding error; N, not 0, negative
    where the grid is turned round (:func:`code_limits`).

    Args:
        pairs: whether the codes will be made :func:`pair_safe`, which larger scales avoid.
    """
    flat = weight.flatten(1)
    full = widest_scales(flat, bits)
    best, least = full, torch.full_like(full, float("inf"))
    for shrink in (*GROW, *SHRINK) if pairs and bits == 8 else SHRINK:
        scale = full * shrink
        error = (weight_codes(flat, scale, bits, pairs) * scale[:, None] - flat).square().sum(1)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


def weight_codes(weight: Tensor, scale: Tensor, bits: int, pairs: bool = False) -> Tensor:
    """Integer codes (as int8) of ``weight`` (N x …) on the grids of ``scale`` (N).

    Args:
        pairs: make them :func:`pair_safe`; fewer than 8 bits are so by themselves.
    """
    steps = weight / scale.reshape(-1, *[1] * (weight.dim() - 1))
    codes = steps.round().clamp(*code_limits(bits))
    if pairs and bits == 8:
        codes = pair_safe(codes.flatten(1)).reshape(codes.shape)
    return codes.to(torch.int8)
