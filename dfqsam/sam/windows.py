"""Window partition with an explicit value for the padding, shared by the ViT and TinyViT encoders.

The exact rewrite (methods: qkv before the partition): a token that a window pads with has a known qkv vector, so qkv is
computed on real tokens only and the qkv *tensor* is padded with that vector. Padding then enters no Linear and no
statistic.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Group:
    """Windows that have equally many real tokens: ``high`` x ``wide`` of each; ``rows`` and ``columns`` number them."""

    rows: range
    columns: range
    high: int
    wide: int


Attend = Callable[[Tensor, Tensor, Tensor, Group], Tensor]


def groups(height: int, width: int, window: int) -> list[list[Group]]:
    """The windows of a grid of ``height`` x ``width`` tokens: whole ones, and those that reach beyond an edge."""
    return [
        [Group(rows, columns, high, wide) for columns, wide in _runs(width, window)]
        for rows, high in _runs(height, window)
    ]


def gather_real(x: Tensor, window: int, group: Group) -> Tensor:
    """The real tokens of a group's windows, from B x H x W x C: (B * windows) x high x wide x C, as one gather, so that
    a graph moves every token once. The index is made of lists, which a runtime adds up when it loads the graph."""
    batch, height, width, channels = x.shape
    below, right = _steps(group.rows, window, group.high), _steps(group.columns, window, group.wide)
    index = (below * width)[:, None, :, None] + right[None, :, None, :]
    found = x.reshape(batch, height * width, channels).index_select(1, index.flatten().to(x.device))
    return found.reshape(-1, group.high, group.wide, channels)


def gather_padded(tokens: Tensor, height: int, width: int, window: int, group: Group) -> Tensor:
    """All tokens of a group's windows, the same way: B x (H W + 1) x C, of which the last stands where one is missing,
    into (B * windows) x window² x C. What :func:`partition` gives, when a group has all windows."""
    missing = height * width
    below, right = _steps(group.rows, window, window), _steps(group.columns, window, window)
    below, right = (below * width).where(below < height, missing), right.where(right < width, missing)
    index = (below[:, None, :, None] + right[None, :, None, :]).clamp(max=missing)
    found = tokens.index_select(1, index.flatten().to(tokens.device))
    return found.reshape(-1, window * window, tokens.shape[-1])


def put_back(parts: list[Tensor], grouped: list[list[Group]]) -> Tensor:
    """The inverse of :func:`gather_real` for all groups of a grid: (B * windows) x high x wide x C of each, in their
    order, into B x H x W x C, as one gather."""
    strips, first, batch = [], 0, len(parts[0]) // (len(grouped[0][0].rows) * len(grouped[0][0].columns))
    for strip in grouped:
        places = []
        for group in strip:
            count, (high, wide) = len(group.columns), (group.high, group.wide)
            below = torch.arange(len(group.rows) * high)
            right = torch.arange(count * wide)
            below = below // high * (count * high * wide) + below % high * wide
            right = right // wide * (high * wide) + right % wide
            places.append(first + below[:, None] + right[None, :])
            first += len(group.rows) * count * high * wide
        strips.append(torch.cat(places, 1))
    index = torch.cat(strips)
    tokens = torch.cat([part.reshape(batch, -1, part.shape[-1]) for part in parts], 1)
    return tokens.index_select(1, index.flatten().to(tokens.device)).reshape(batch, *index.shape, tokens.shape[-1])


def in_windows(qkv: Tensor, pad: Tensor, window: int, attend: Attend) -> Tensor:
    """Attention in windows. Padded tokens are keys and values; queries are real ones only, so that windows which reach
    beyond an edge are taken apart from the others.

    Args:
        qkv: B x H x W x 3C.
        pad: what a padded token has (3C).
        attend: from N x high x wide x C queries, N x window² x C keys and values and their group to N x (high wide) x
            C.

    Returns:
        B x H x W x C.
    """
    query, *others = qkv.chunk(3, -1)
    batch, height, width, channels = query.shape
    near = [
        torch.cat([x.reshape(batch, -1, channels), own.expand(batch, 1, channels)], 1)
        for x, own in zip(others, pad.chunk(3)[1:], strict=True)
    ]
    grouped, parts = groups(height, width, window), []
    for group in itertools.chain.from_iterable(grouped):
        own = gather_real(query, window, group)
        key, value = (gather_padded(x, height, width, window, group) for x in near)
        parts.append(attend(own, key, value, group).reshape(own.shape))
    return put_back(parts, grouped)


def _steps(numbers: range, window: int, count: int) -> Tensor:
    """Where the first ``count`` tokens of the windows ``numbers`` are along a side: windows x count."""
    return torch.tensor([[number * window + i for i in range(count)] for number in numbers])


def _runs(length: int, window: int) -> list[tuple[range, int]]:
    """Windows along a side of ``length`` tokens, those of one size together: their numbers, and how many tokens each
    really has.

    >>> _runs(16, 14), _runs(28, 14)
    ([(range(0, 1), 14), (range(1, 2), 2)], [(range(0, 2), 14)])
    """
    whole, rest = divmod(length, window)
    found = [(range(whole), window)] if whole else []
    return [*found, (range(whole, whole + 1), rest)] if rest else found
