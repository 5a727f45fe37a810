"""Weights rounded for storage, computed with in floating point: the mask decoder's to integers, and what is large and
not quantized in an encoder to half precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfqsam.quant.grid import code_limits
from dfqsam.quant.layers import QuantizedLayer

LARGE = 256  # values that a tensor must have to be worth a node that unpacks it


def round_to_grid(weight: Tensor, axis: int, bits: int = 8) -> Tensor:
    """``weight`` on symmetric grids, one for each index of ``axis``, that reach exactly to the largest weight.

    Rounding twice changes nothing, so that whoever stores the result finds the same integers again.
    """
    others = [d for d in range(weight.dim()) if d != axis]
    scale = weight.abs().amax(others, keepdim=True).clamp_min(1e-12) / code_limits(bits)[1]
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


@torch.no_grad()
def round_to_half(encoder: nn.Module) -> int:
    """Rounds what is not quantized and not small to half precision, in place, biases of quantized layers too; returns
    how many tensors.

    They change by 0.05 % at most, a tenth of what eight bits do, and take half the room in a file
    (:func:`dfqsam.export.pack.store_halves`). One with values that half precision cannot hold stays as it is.
    """
    count = 0
    for module in encoder.modules():
        own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if isinstance(module, QuantizedLayer):
            own = () if module.bias is None else (module.bias,)
        for value in own:
            if value.dtype != torch.float32 or value.numel() < LARGE:
                continue
            half = value.half().float()
            if bool(half.isfinite().all()):
                value.copy_(half)
                count += 1
    return count
