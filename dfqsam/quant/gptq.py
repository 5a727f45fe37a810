"""Weights rounded one input after the other, each rounding error made good by the inputs that follow: pure maths.

Source: GPTQ (Frantar et al., 2022, arXiv 2210.17323), sections 3.1 to 3.3; the scale of every output channel is
searched by the error of its *compensated* weights, which channels being independent of each other makes exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfqsam.quant.grid import PAIR_LIMIT, SHRINK, code_limits, widest_scales

BLOCK = 64  # inputs whose errors are passed on at once


def weighted_error(difference: Tensor, moment: Tensor) -> Tensor:
    """``difference`` (G x N x K) weighed by the second ``moment`` (G x K x K) of the inputs: the mean squared error of
    each output, G x N."""
    return ((difference @ moment) * difference).sum(-1)


def damped(moment: Tensor, damping: float) -> Tensor:
    """``moment`` (G x K x K) with ``damping`` times its mean diagonal on top of it; dead inputs get one too."""
    diagonal = moment.diagonal(dim1=-2, dim2=-1)
    ridge = (damping * diagonal.mean(-1)).clamp_min(1e-12)
    return moment + torch.eye(moment.shape[-1], dtype=moment.dtype) * ridge[:, None, None]


def gptq(
    weight: Tensor, moment: Tensor, scale: Tensor, bits: int, damping: float = 0.01, pairs: bool = False
) -> Tensor:
    """Integer codes of ``weight`` whose products with the inputs have little error.

    Args:
        weight: G x N x K: groups, outputs and inputs of each.
        moment: G x K x K, mean of x xᵀ over the inputs as the layer gets them.
        scale: G x N, or G x N x K where inputs have scales of their own; not 0.
        bits: 2 to 8, see :func:`dfqsam.quant.grid.code_limits`.
        damping: share of the mean diagonal of ``moment`` added to its diagonal.
        pairs: keep neighbours safe in pairs, see :func:`dfqsam.quant.grid.pair_safe`. Otherwise the inputs that carry
            most are rounded first, while there are many left to make up for them.

    Returns:
        G x N x K codes, as floats of the kind of ``weight``.
    """
    limits, size = code_limits(bits), weight.shape[-1]
    paired = pairs and bits == 8
    diagonal = moment.diagonal(dim1=-2, dim2=-1)
    order = torch.arange(size).expand(len(weight), -1) if paired else diagonal.argsort(dim=-1, descending=True)
    rows = order[:, None].expand_as(weight)
    left = weight.gather(-1, rows)
    steps = scale[..., None].expand_as(weight) if scale.dim() == 2 else scale.gather(-1, rows)
    square = damped(moment, damping)
    square = square.gather(-2, order[..., None].expand_as(square)).gather(-1, order[:, None].expand_as(square))
    # The upper Cholesky factor of the inverse holds, row by row, how later inputs make up for an earlier one.
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(square.double()))
    upper = torch.linalg.cholesky(inverse, upper=True).to(weight.dtype)
    codes = torch.empty_like(left)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        block, errors = left[..., start:stop].clone(), torch.empty_like(left[..., start:stop])
        for i in range(stop - start):
            place = start + i
            step = steps[..., place]
            code = (block[..., i] / step).round().clamp_(*limits)
            if paired and place % 2:
                before = codes[..., place - 1]
                code = torch.maximum(torch.minimum(code, PAIR_LIMIT - before), -PAIR_LIMIT - before)
            codes[..., place] = code
            errors[..., i] = (block[..., i] - code * step) / upper[:, None, place, place]
            block[..., i + 1 :] -= errors[..., i, None] * upper[:, None, place, place + 1 : stop]
        left[..., stop:] -= errors @ upper[:, start:stop, stop:]
    return torch.empty_like(codes).scatter_(-1, rows, codes)


def gptq_with_scales(
    weight: Tensor, moment: Tensor, bits: int, damping: float = 0.01, pairs: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`gptq` with the scale of each output, among shares of its largest weight, that leaves the least error.

    Returns:
        Codes (G x N x K) and scales (G x N).
    """
    full = widest_scales(weight, bits)
    # Scales are float32 when the model runs; what is judged here must be what is multiplied there.
    scales = (full[:, None] * torch.tensor(SHRINK, dtype=full.dtype)[:, None]).float().to(weight.dtype)
    groups, outputs = weight.shape[:2]
    tried = weight[:, None].expand(-1, len(SHRINK), -1, -1).flatten(1, 2)
    codes = gptq(tried, moment, scales.flatten(1), bits, damping, pairs)
    error = weighted_error(codes * scales.flatten(1)[..., None] - tried, moment).unflatten(1, (len(SHRINK), outputs))
    best = error.argmin(1)[:, None]
    codes = codes.unflatten(1, (len(SHRINK), outputs))
    chosen = codes.gather(1, best[..., None].expand(groups, 1, outputs, codes.shape[-1]))
    return chosen[:, 0], scales.gather(1, best)[:, 0]
