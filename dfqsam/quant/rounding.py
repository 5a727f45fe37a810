"""Weights rounded for storage, computed with in floating point: the mask decoder's to integers; in an encoder what is
very large and not quantized to integers too, and what is large to half precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfqsam.quant.grid import code_limits
from dfqsam.quant.layers import CodedLayer


def round_to_grid(weight: Tensor, axis: int, bits: int = 8) -> Tensor:
    """``weight`` on symmetric grids, one for each index of ``axis``, that reach exactly to the largest weight.

    Rounding twice changes nothing, so that whoever stores the result finds the same integers again.
    """
    others = [d for d in range(weight.dim()) if d != axis]
    scale = weight.abs().amax(others, keepdim=True).clamp_min(1e-12) / code_limits(bits)[1]
    return (weight / scale).round() * scale


Weighted = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
LARGE = 256  # values that a tensor must have to be worth a node that unpacks it
VERY_LARGE = 1 << 16  # values of a weight from which on eight bits are taken in place of sixteen


def _outputs(layer: Weighted) -> int:
    """The axis of the weight that its outputs are on."""
    return 1 if isinstance(layer, nn.ConvTranspose2d) else 0


@torch.no_grad()
def round_weights(module: nn.Module, bits: int = 8) -> int:
    """Rounds every Linear and convolution below ``module`` per output channel, in place; returns how many."""
    layers = [layer for layer in module.modules() if isinstance(layer, Weighted)]
    for layer in layers:
        layer.weight.copy_(round_to_grid(layer.weight, _outputs(layer), bits))
    return len(layers)


@torch.no_grad()
def round_for_storage(encoder: nn.Module, keep: tuple[str, ...] = ()) -> int:
    """Rounds what is not quantized and very large to eight bits an output channel, and what is large to half precision
    (:func:`round_to_half`), in place; returns how many weights have eight bits now.

    Of SAM's encoders that concerns channel attention of SAM-Med2D's adapters and, where only matrices are quantized,
    the convolutions of these adapters (two thirds of its weights) and the neck's of 3x3 (a tenth of LiteMedSAM's).

    Args:
        keep: prefixes of names that are left to half precision.
    """
    count = 0
    for name, layer in encoder.named_modules():
        if isinstance(layer, Weighted) and layer.weight.numel() >= VERY_LARGE and not name.startswith(keep):
            count += round_weights(layer)
    round_to_half(encoder)
    return count


@torch.no_grad()
def round_to_half(encoder: nn.Module) -> int:
    """Rounds what is not quantized and not small to half precision, in place, biases of quantized layers too, but not
    what lies on a grid of eight bits already; returns how many tensors.

    They change by 0.05 % at most, a tenth of what eight bits do, and take half the room in a file
    (:func:`dfqsam.export.pack.store_halves`). One with values that half precision cannot hold stays as it is.
    """
    count = 0
    for module in encoder.modules():
        own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if isinstance(module, CodedLayer) or (isinstance(module, Weighted) and _on_eight_bits(module)):
            own = () if module.bias is None else (module.bias,)
        for value in own:
            if value.dtype != torch.float32 or value.numel() < LARGE:
                continue
            half = value.half().float()
            if bool(half.isfinite().all()):
                value.copy_(half)
                count += 1
    return count


def _on_eight_bits(layer: Weighted) -> bool:
    weight = layer.weight
    if weight.numel() < VERY_LARGE:
        return False
    largest = weight.abs().amax([d for d in range(weight.dim()) if d != _outputs(layer)], keepdim=True)
    return bool(((weight - round_to_grid(weight, _outputs(layer))).abs() <= 1e-5 * largest).all())
