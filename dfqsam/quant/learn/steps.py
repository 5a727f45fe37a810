"""Rounding that can be learned through: pure maths on tensors.

Sources: LSQ (Esser et al., ICLR 2020, arXiv 1902.08153), section 2.1, for the gradient of the step; QDrop (Wei et al.,
ICLR 2022, arXiv 2203.05740), section 3.3, for leaving values unrounded at random.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dfqsam.quant.grid import Affine, code_limits
from dfqsam.quant.logarithmic import Logarithmic, fake_quantize_log

LEAN = 0.45  # of a step; from 0.5 on a code would round to its neighbour


class _RoundToStep(torch.autograd.Function):
    """x on the grid (step, zero point, bits), rounded half to even as the deployed graph does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, zero_point: int, bits: int) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.ends = (-zero_point, 2**bits - 1 - zero_point)
        return (x / step).round_().clamp_(*ctx.ends).mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (grad,), (x, step) = grads, ctx.saved_tensors
        steps = x / step
        rounded = steps.round()
        codes = rounded.clamp(*ctx.ends)
        inside = codes == rounded
        # d(step * code)/d step: the code itself where x is cut off, code - x / step inside, where x does not move.
        by_step = (grad * (codes - steps * inside)).sum()
        return grad * inside, by_step, None, None


def round_to_step(x: Tensor, step: Tensor, grid: Affine) -> Tensor:
    """``x`` on ``grid`` with another ``step`` (a scalar tensor, positive); differentiable in both."""
    return _RoundToStep.apply(x, step, grid.zero_point, grid.bits)  # type: ignore[no-any-return]


def round_straight(x: Tensor) -> Tensor:
    """``x`` rounded to integers, its gradient passed through."""
    return x + (x.detach().round() - x.detach())


def log_straight(x: Tensor, grid: Logarithmic) -> Tensor:
    """Non-negative ``x`` on a logarithmic grid, its gradient passed through."""
    return x + (fake_quantize_log(x.detach(), grid) - x.detach())


def dropped(rounded: Tensor, x: Tensor, share: float) -> Tensor:
    """``rounded`` with a random ``share`` of its values as they were in ``x``."""
    if not share:
        return rounded
    # Between two values, 0 and 1 give each of them exactly; processors choose between them far more slowly.
    return torch.lerp(rounded, x, torch.rand_like(x).lt_(share))


def interval(codes: Tensor, origin: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The lower of the two neighbouring codes that a weight may end at: its own, and the next one in the direction of
    the weight that it stands for.

    Args:
        codes, origin: … x K.
        scale: of the codes, not 0.

    Returns:
        … x K.
    """
    low, high = code_limits(bits)
    return torch.where(origin / scale > codes, codes, codes - 1).clamp(low, high - 1)


def leaning(codes: Tensor, origin: Tensor, scale: Tensor) -> Tensor:
    """The codes moved towards the weights that they stand for, but not so far that they would round to others: where
    codes were rounded each by itself, nearly the weights. Arguments as those of :func:`interval`."""
    return codes + (origin / scale - codes).clamp(-LEAN, LEAN)


def undecided(share: Tensor, sharpness: float) -> Tensor:
    """AdaRound's regulariser (section 3.3): the mean of 1 - |2 h - 1|^sharpness over shares h of the way from the lower
    to the upper code, 0 where all weights have arrived. A large sharpness lets all but the ends alone."""
    return (1 - (2 * share - 1).abs().pow(sharpness)).mean()


def hard_codes(latent: Tensor, bits: int) -> Tensor:
    """The integers that ``latent`` stands for; its gradient passes through."""
    return round_straight(latent).clamp(*code_limits(bits))
