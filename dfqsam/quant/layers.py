"""Quantized layers that replace Linears and convolutions of an encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfqsam.quant.grid import Affine, pair_safe, signed_limit, weight_codes
from dfqsam.quant.ops import quantized_conv, quantized_linear


class QuantizedLayer(nn.Module):
    """Integer weights with one scale per output channel, and an affine grid for what enters.

    Attributes:
        codes: int8, on the symmetric grid of ``weight_bits``.
        scale: float32, one per output channel.
        bias: 1 x 1 x N float32 or None. The shape matters: behind a 1-D bias ONNX Runtime computes in float.
        grid: the grid of the activations.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, grid: Affine, weight_bits: int) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach().reshape(1, 1, -1).clone())
        self.grid, self.weight_bits = grid, weight_bits

    def extra_repr(self) -> str:
        return f"{tuple(self.codes.shape)}, w{self.weight_bits} a{self.grid.bits}"


class QuantizedLinear(QuantizedLayer):
    """… x K to … x N; codes are K x N."""

    @classmethod
    def of(cls, linear: nn.Linear, scale: Tensor, grid: Affine, weight_bits: int) -> QuantizedLinear:
        codes = weight_codes(linear.weight, scale, weight_bits, pairs=True)
        return cls(codes.T.contiguous(), scale, linear.bias, grid, weight_bits)

    def forward(self, x: Tensor) -> Tensor:
        grid = self.grid
        return quantized_linear(x, self.codes, self.scale, self.bias, grid.scale, grid.zero_point, grid.bits)


class QuantizedConv(QuantizedLayer):
    """A convolution of stride 1 on B x H x W x C; codes are N x C x k x k."""

    def __init__(
        self, codes: Tensor, scale: Tensor, bias: Tensor | None, grid: Affine, weight_bits: int, padding: int
    ) -> None:
        super().__init__(codes, scale, bias, grid, weight_bits)
        self.padding = padding

    @classmethod
    def of(cls, conv: nn.Conv2d, scale: Tensor, grid: Affine, weight_bits: int) -> QuantizedConv:
        codes = weight_codes(conv.weight, scale, weight_bits)
        return cls(codes, scale, conv.bias, grid, weight_bits, int(conv.padding[0]))

    def forward(self, x: Tensor) -> Tensor:
        grid = self.grid
        y = quantized_conv(
            x.permute(0, 3, 1, 2),
            self.codes,
            self.scale,
            self.bias,
            grid.scale,
            grid.zero_point,
            grid.bits,
            self.padding,
        )
        return y.permute(0, 2, 3, 1)


def replace(root: nn.Module, name: str, module: nn.Module) -> None:
    """Puts ``module`` at the dotted ``name`` below ``root``."""
    parent, _, leaf = name.rpartition(".")
    owner = root.get_submodule(parent)
    if leaf.isdigit() and isinstance(owner, nn.Sequential):
        owner[int(leaf)] = module
    else:
        setattr(owner, leaf, module)


@torch.no_grad()
def on_grid(layer: QuantizedLayer) -> bool:
    """Whether every weight lies on the integer grid of its bits, and those of a matrix are safe in pairs."""
    limit = signed_limit(layer.weight_bits)
    fits = layer.codes.dtype == torch.int8 and int(layer.codes.abs().max()) <= limit
    if fits and isinstance(layer, QuantizedLinear):
        rows = layer.codes.T.float()
        return torch.equal(pair_safe(rows), rows)
    return fits
