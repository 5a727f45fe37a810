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


def gather_windows(x: Tensor, window: int, pad: Tensor) -> Tensor:
    """What :func:`partition` gives, as one gather of tokens: a graph then moves every token once. The index is made of
    two short lists, which a runtime multiplies out when it loads the graph."""
    batch, height, width, channels = x.shape
    tokens = torch.cat([x.reshape(batch, height * width, channels), pad.expand(batch, 1, channels)], dim=1)
    missing = height * width  # where the padding stands
    starts = torch.tensor([y * width if y < height else missing for y in range(height + -height % window)])
    steps = torch.tensor([x if x < width else missing for x in range(width + -width % window)])
    index = starts.reshape(-1, 1, window, 1) + steps.reshape(1, -1, 1, window)
    found = tokens.index_select(1, index.clamp(max=missing).flatten().to(x.device))
    return found.reshape(-1, window * window, channels)


def gather_tokens(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """What :func:`unpartition` gives, as one gather of tokens."""
    columns, area = -(-width // window), window * window
    starts = torch.tensor([y // window * columns * area + y % window * window for y in range(height)])
    steps = torch.tensor([x // window * area + x % window for x in range(width)])
    index = (starts[:, None] + steps[None, :]).flatten().to(windows.device)
    channels = windows.shape[-1]
    tokens = windows.reshape(-1, -(-height // window) * columns * area, channels)
    return tokens.index_select(1, index).reshape(-1, height, width, channels)


def runs(length: int, window: int) -> list[tuple[range, int]]:
    """Windows along a side of ``length`` tokens, those of one size together: their numbers, and how many tokens each
    really has.

    >>> runs(16, 14), runs(28, 14)
    ([(range(0, 1), 14), (range(1, 2), 2)], [(range(0, 2), 14)])
    """
    whole, rest = divmod(length, window)
    found = [(range(whole), window)] if whole else []
    return [*found, (range(whole, whole + 1), rest)] if rest else found


def tiles(x: Tensor, high: int, wide: int) -> Tensor:
    """B x (n high) x (m wide) x C into (B n m) x high x wide x C."""
    return x.unflatten(2, (-1, wide)).unflatten(1, (-1, high)).transpose(2, 3).flatten(0, 2)


def untile(x: Tensor, down: int, across: int) -> Tensor:
    """The inverse of :func:`tiles`, of ``down`` x ``across`` tiles."""
    return x.unflatten(0, (-1, down, across)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
