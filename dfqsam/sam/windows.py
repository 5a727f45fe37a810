"""Window partition with an explicit value for the padding, shared by the ViT and TinyViT encoders.

The exact rewrite (methods: qkv before the partition): a token that a window pads with has a known qkv vector, so qkv is
computed on real tokens only and the qkv *tensor* is padded with that vector. Padding then enters no Linear and no
statistic.
"""

from __future__ import annotations

import torch
from torch import Tensor


def partition(x: Tensor, window: int, pad: Tensor) -> Tensor:
    """B x H x W x C into (B * windows) x window² x C; missing tokens take the vector ``pad`` (C)."""
    batch, height, width, channels = x.shape
    below, right = -height % window, -width % window
    if right:
        x = torch.cat([x, pad.expand(batch, height, right, channels)], dim=2)
    if below:
        x = torch.cat([x, pad.expand(batch, below, width + right, channels)], dim=1)
    rows, columns = (height + below) // window, (width + right) // window
    x = x.reshape(batch, rows, window, columns, window, channels).transpose(2, 3)
    return x.reshape(batch * rows * columns, window * window, channels)


def unpartition(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`partition`: (B * windows) x window² x C into B x H x W x C, padding dropped."""
    rows, columns = -(-height // window), -(-width // window)
    channels = windows.shape[-1]
    x = windows.reshape(-1, rows, columns, window, window, channels).transpose(2, 3)
    return x.reshape(-1, rows * window, columns * window, channels)[:, :height, :width]
