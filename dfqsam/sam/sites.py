"""Named quantization sites: the Linears, convolutions and attention products of an encoder.

Everything above ``sam`` works on sites and never asks which family an encoder belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["linear", "conv", "depthwise", "product"]
Source = Literal["layernorm", "gelu", "residual", "image", "attention"]


class Pointwise(nn.Linear):
    """A 1x1 convolution on channels-last tensors (B x H x W x C); a Linear in all but name.

    Attributes:
        channels_first: compute it as a convolution of B x C x H x W, see :mod:`dfqsam.sam.fused`.
    """

    channels_first = False

    def forward(self, input: Tensor) -> Tensor:
        if not self.channels_first:
            return super().forward(input)
        return self.convolve(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def convolve(self, x: Tensor) -> Tensor:
        """The same on B x C x H x W."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class Product(nn.Module):
    """One of the two attention products, a matrix product of two activations (… x M x K times … x K x N)."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b


@dataclass(frozen=True)
class Site:
    """One place where an encoder can be quantized.

    Attributes:
        name: dotted module name inside the encoder.
        kind: what it computes.
        source: what feeds its (first) input.
        norm: dotted name of the LayerNorm that feeds it and nothing else, or None. Where it is given, scale
            reparameterization is exact.
        stream: dotted name of the module whose input is added to this site's output, or None: the residual stream that
            it writes to.
        matrix: whether it multiplies tokens by one matrix, as a Linear or a 1x1 convolution does.
    """

    name: str
    kind: Kind
    source: Source
    norm: str | None = None
    stream: str | None = None
    matrix: bool = False


def site_of(name: str, module: nn.Module, source: Source, norm: str | None = None, stream: str | None = None) -> Site:
    """A Site whose kind is read off the module."""
    if isinstance(module, Product):
        kind: Kind = "product"
    elif isinstance(module, nn.Conv2d):
        kind = "depthwise" if module.groups == module.in_channels > 1 else "conv"
    else:
        kind = "conv" if isinstance(module, Pointwise) else "linear"
    return Site(name, kind, source, norm, stream, isinstance(module, nn.Linear))


class ChannelsLastConv(nn.Conv2d):
    """A Conv2d that takes and gives B x H x W x C."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ChannelsLastNorm(nn.LayerNorm):
    """SAM's LayerNorm2d (eps 1e-6) on channels-last tensors, where it is an ordinary LayerNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)


def neck(width: int, out: int = 256) -> nn.Sequential:
    """SAM's neck on channels-last tensors: 1x1 convolution, norm, 3x3 convolution, norm."""
    return nn.Sequential(
        Pointwise(width, out, bias=False),
        ChannelsLastNorm(out),
        ChannelsLastConv(out, out, 3, padding=1, bias=False),
        ChannelsLastNorm(out),
    )


def neck_sites(module: nn.Sequential, source: Source = "residual") -> list[Site]:
    """The two convolutions of :func:`neck`; the second reads the first norm alone."""
    return [site_of("neck.0", module[0], source), site_of("neck.2", module[2], "layernorm", "neck.1")]


def pointwise_weights(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """1x1 convolution kernels (O x I x 1 x 1) as matrices, wherever the encoder has a Pointwise module."""
    state = dict(state)
    for name, module in encoder.named_modules():
        key = f"{name}.weight"
        if isinstance(module, Pointwise) and key in state and state[key].shape[2:] == torch.Size([1, 1]):
            state[key] = state[key].flatten(1)
    return state
