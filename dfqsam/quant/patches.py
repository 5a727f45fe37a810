"""What the weights of a quantized layer are multiplied with, at chosen places of its output."""

from __future__ import annotations

import torch
from torch import Tensor

from dfqsam.quant.grid import fake_quantize
from dfqsam.quant.layers import CodedLayer, QuantizedConv, QuantizedLayer


def rounded_inputs(layer: CodedLayer, x: Tensor, places: Tensor) -> Tensor:
    """The inputs of ``layer``, on their grid where it has one, a row for each place of its output: G x P x K, as
    ``origin`` has them.

    Args:
        x: what enters for one image, 1 x … x C (1 x H x W x C for a convolution).
        places: P indices into the output's tokens, row by row.
    """
    if isinstance(layer, QuantizedConv):
        return _patches(layer, x[0], places)
    found = x.flatten(0, -2)[places]
    return (fake_quantize(layer.rescaled(found), layer.grid) if isinstance(layer, QuantizedLayer) else found)[None]


def _patches(layer: QuantizedConv, x: Tensor, places: Tensor) -> Tensor:
    side, pad = layer.codes.shape[2], layer.padding
    height, width, channels = x.shape
    columns = (width + 2 * pad - side) // layer.stride + 1
    top, left = places // columns * layer.stride - pad, places % columns * layer.stride - pad
    offsets = torch.arange(side)
    rows, cols = (top[:, None] + offsets)[:, :, None], (left[:, None] + offsets)[:, None, :]
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    found = x[rows.clamp(0, height - 1), cols.clamp(0, width - 1)]  # P x k x k x C
    found = fake_quantize(layer.rescaled(found * inside[..., None]), layer.grid)
    grouped = found.reshape(len(places), side, side, layer.groups, channels // layer.groups)
    return grouped.permute(3, 0, 4, 1, 2).flatten(2)
