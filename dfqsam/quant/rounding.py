"""Weights rounded to integers for storage, computed with in floating point (the mask decoder)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfqsam.quant.grid import signed_limit


def round_to_grid(weight: Tensor, axis: int, bits: int = 8) -> Tensor:
    """``weight`` on symmetric grids, one for each index of ``axis``, that reach exactly to the largest weight.

    Rounding twice changes nothing, so that whoever stores the result finds the same integers again.
    """
    others = [d for d in range(weight.dim()) if d != axis]
    scale = weight.abs().amax(others, keepdim=True).clamp_min(1e-12) / signed_limit(bits)
    return (weight / scale).round() * scale


@torch.no_grad()
def round_weights(module: nn.Module, bits: int = 8) -> int:
    """Rounds every Linear and convolution below ``module`` per output channel, in place; returns how many."""
    count = 0
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            layer.weight.copy_(round_to_grid(layer.weight, axis, bits))
            count += 1
    return count
