"""Forms of an encoder's parts that deployed graphs compute faster; the same values up to the order of sums.

``fused`` attention is one operator (scores, bias, softmax and the product with the values), inside which there is no
site; ``channels_first`` 1x1 convolutions let neighbouring convolutions keep their layout; ``strips`` of a few rows keep
what is between the convolutions of a bottleneck small enough for caches, and the peak of memory low. They are switched
on for an export only (:func:`deployed_forms`): calibration looks at the parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.sam.sites import ChannelsLastConv, Pointwise, Product

STRIPS = 8


@torch.library.custom_op("dfqsam::attention", mutates_args=())
def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, heads: int, scale: float) -> Tensor:
    """softmax(scale query keyᵀ + bias) value, head by head.

    Args:
        query: B x M x heads D.
        key: B x K x heads D.
        value: B x K x heads E.
        bias: broadcast to B x heads x M x K; None for none.

    Returns:
        B x M x heads E.
    """
    parts = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value)]
    mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=bias, scale=scale)
    return mixed.transpose(1, 2).flatten(2).contiguous()


@attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, heads: int, scale: float) -> Tensor:
    return query.new_empty((*query.shape[:2], value.shape[-1]))


def bottleneck(x: Tensor, parts: tuple[nn.Module, ...], strips: int, residual: bool) -> Tensor:
    """1x1, GELU, depthwise 3x3, GELU, 1x1, and where ``residual`` says so x added and a GELU on top, strip by strip.

    Args:
        x: B x H x W x C.
        parts: Pointwise, ChannelsLastConv (padded by 1) and Pointwise.
    """
    first, depthwise, last = parts
    assert isinstance(first, Pointwise)
    assert isinstance(depthwise, ChannelsLastConv)
    assert isinstance(last, Pointwise)
    stride, x = int(depthwise.stride[0]), x.permute(0, 3, 1, 2)
    height, rows = x.shape[2], (x.shape[2] - 1) // stride + 1
    made = []
    for i in range(strips):
        start, stop = rows * i // strips, rows * (i + 1) // strips
        if start == stop:
            continue
        above, below = start * stride - 1, (stop - 1) * stride + 2  # what the filters reach
        y = F.gelu(first.convolve(x[:, :, max(above, 0) : min(below, height)]))
        if above < 0 or below > height:
            y = F.pad(y, (0, 0, max(-above, 0), max(below - height, 0)))
        y = F.conv2d(y, depthwise.weight, depthwise.bias, stride, (0, 1), groups=depthwise.groups)
        y = last.convolve(F.gelu(y))
        made.append(F.gelu(y + x[:, :, start:stop]) if residual else y)
    return torch.cat(made, 2).permute(0, 2, 3, 1)


@contextmanager
def deployed_forms(encoder: nn.Module) -> Iterator[None]:
    """Lets ``encoder`` compute in these forms for as long as the block runs, wherever nothing quantized is inside."""
    changed: list[tuple[nn.Module, str, object]] = []
    for module in encoder.modules():
        if hasattr(module, "fused") and all(type(part) is Product for part in (module.matmul_qk, module.matmul_av)):
            changed.append((module, "fused", True))
        if isinstance(module, Pointwise):
            changed.append((module, "channels_first", True))
        if hasattr(module, "strips"):
            kinds = [type(part) for part in (module.conv1, module.conv2, module.conv3)]
            if kinds == [Pointwise, ChannelsLastConv, Pointwise]:
                changed.append((module, "strips", STRIPS))
    try:
        for module, name, value in changed:
            setattr(module, name, value)
        yield
    finally:
        for module, name, _ in changed:
            delattr(module, name)  # back to what the class says
