"""The operators of an encoder with integer weights, as torch operators, so that an exporter can see them whole.

Each computes exactly what the deployed graph computes: activations rounded to an affine grid (but for ``block_linear``,
which takes them as they are), integer weights times their scales, bias in float. Shapes: x … x K, codes K x N, scale N,
bias 1 x 1 x N.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqsam.quant.blocks import spread, unpack
from dfqsam.quant.grid import Affine, fake_quantize


@torch.library.custom_op("dfqsam::quantized_linear", mutates_args=())
def quantized_linear(
    x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None, step: float, zero_point: int, bits: int
) -> Tensor:
    """… x K activations on the affine grid (step, zero_point, bits) times K x N integer weights: … x N."""
    y = fake_quantize(x, Affine(step, zero_point, bits)) @ (codes * scale)
    return y if bias is None else y.add_(bias)


@quantized_linear.register_fake
def _(x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None, step: float, zero_point: int, bits: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[1]))


@torch.library.custom_op("dfqsam::quantized_conv", mutates_args=())
def quantized_conv(
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    step: float,
    zero_point: int,
    bits: int,
    padding: int,
    stride: int,
    groups: int,
) -> Tensor:
    """Convolution of B x H x W x C with integer kernels N x C/groups x k x k; B x H' x W' x N."""
    kernel = codes * scale[:, None, None, None]
    rounded = fake_quantize(x.permute(0, 3, 1, 2), Affine(step, zero_point, bits))
    y = F.conv2d(rounded, kernel, stride=stride, padding=padding, groups=groups)
    y = y if bias is None else y.add_(bias.reshape(1, -1, 1, 1))
    return y.permute(0, 2, 3, 1).contiguous()


@quantized_conv.register_fake
def _(
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    step: float,
    zero_point: int,
    bits: int,
    padding: int,
    stride: int,
    groups: int,
) -> Tensor:
    height, width = ((side + 2 * padding - codes.shape[2]) // stride + 1 for side in x.shape[1:3])
    return x.new_empty((x.shape[0], height, width, codes.shape[0]))


@torch.library.custom_op("dfqsam::block_linear", mutates_args=())
def block_linear(x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None, inputs: int) -> Tensor:
    """… x K activations in floating point times weights of four bits in blocks (N x blocks x bytes, see
    :mod:`dfqsam.quant.blocks`), ``inputs`` of them a row: … x N."""
    weight = unpack(codes, inputs) * spread(scale, 2 * codes.shape[-1], inputs)
    y = x @ weight.T
    return y if bias is None else y.add_(bias)


@block_linear.register_fake
def _(x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None, inputs: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[0]))
