"""Weights of four bits with a scale for every block of inputs: pure maths, and the layout of ``MatMulNBits``."""

from __future__ import annotations

import torch
from torch import Tensor

from dfqsam.quant.gptq import gptq
from dfqsam.quant.grid import SHRINK, code_limits, widest_scales

BITS = 4
ZERO = 8  # the stored value of 0: codes -8 … 7 are stored as 0 … 15


def block_scales(weight: Tensor, block: int, importance: Tensor | None = None) -> Tensor:
    """The scale of each block with the least squared rounding error, among shares of what clips nothing; values of half
    precision, and never 0.

    Args:
        weight: … x N x K; the last block of a row may be shorter.
        block: inputs of each block.
        importance: … x K, how much an error at each input counts; None for all alike.

    Returns:
        … x N x ceil(K / block).
    """
    parts = _blocks(weight, block)
    share = _blocks(
        torch.ones_like(weight) if importance is None else importance[..., None, :].expand_as(weight), block
    )
    full = widest_scales(parts, BITS)
    best, least = full, torch.full_like(full, float("inf"))
    for shrink in SHRINK:
        scale = _half(full * shrink)
        codes = (parts / scale[..., None]).round().clamp(*code_limits(BITS))
        error = ((codes * scale[..., None] - parts).square() * share).sum(-1)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


def spread(scale: Tensor, block: int, inputs: int) -> Tensor:
    """Scales of blocks (… x ceil(K / block)) as those of their ``inputs`` (… x K)."""
    return scale.repeat_interleave(block, -1)[..., :inputs]


def rounded_codes(weight: Tensor, scale: Tensor, block: int) -> Tensor:
    """The nearest codes of ``weight`` (… x N x K) on the grids of ``scale`` (… x N x ceil(K / block)), as floats."""
    return (weight / spread(scale, block, weight.shape[-1])).round().clamp(*code_limits(BITS))


def gptq_in_blocks(weight: Tensor, moment: Tensor, block: int, damping: float) -> tuple[Tensor, Tensor]:
    """:func:`dfqsam.quant.gptq.gptq` with a scale a block, chosen beforehand for what each input carries.

    Args:
        weight: G x N x K.
        moment: G x K x K, mean of x xᵀ.

    Returns:
        Codes (G x N x K) and scales (G x N x ceil(K / block)).
    """
    scale = block_scales(weight, block, moment.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12))
    return gptq(weight, moment, spread(scale, block, weight.shape[-1]), BITS, damping), scale


def pack(codes: Tensor, block: int) -> Tensor:
    """N x K codes (-8 … 7) as ``MatMulNBits`` stores them: N x ceil(K / block) x block / 2 bytes, the first of two in
    the low half; a short block is filled with zeros.

    >>> pack(torch.tensor([[1, -1, 7]]), 4)
    tensor([[[121, 143]]], dtype=torch.uint8)
    """
    stored = _blocks(codes.to(torch.int16), block) + ZERO
    return (stored[..., ::2] | (stored[..., 1::2] << 4)).to(torch.uint8)


def unpack(packed: Tensor, inputs: int) -> Tensor:
    """What :func:`pack` has packed: N x ``inputs`` codes, int8."""
    halves = torch.stack([packed & 15, packed >> 4], dim=-1)
    return (halves.flatten(1)[:, :inputs].to(torch.int8) - ZERO).contiguous()


def _half(scale: Tensor) -> Tensor:
    """``scale`` as half precision holds it; what would become 0 or infinite stays within its range."""
    size = scale.abs().clamp(2.0**-24, 65504.0)
    return size.half().to(scale.dtype).copysign(scale)


def _blocks(weight: Tensor, block: int) -> Tensor:
    """… x K to … x ceil(K / block) x block, filled with zeros."""
    missing = -weight.shape[-1] % block
    return torch.nn.functional.pad(weight, (0, missing)).unflatten(-1, (-1, block))
