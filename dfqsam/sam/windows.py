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
Tokens = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def groups(height: int, width: int, window: int) -> list[list[Group]]:
    """The windows of a grid of ``height`` x ``width`` tokens: whole ones, and those that reach beyond an edge."""
    return [
        [Group(rows, columns, high, wide) for columns, wide in _runs(width, window)]
        for rows, high in _runs(height, window)
    ]


def real_places(group: Group, width: int, window: int) -> Tensor:
    """Which tokens of a grid of ``width`` columns, counted row by row, are the real ones of a group's windows: window
    by window, (windows high wide)."""
    below, right = _steps(group.rows, window, group.high), _steps(group.columns, window, group.wide)
    return ((below * width)[:, None, :, None] + right[None, :, None, :]).flatten()


def padded_places(group: Group, window: int, first: int, missing: int) -> Tensor:
    """Where all ``window``² tokens of each of a group's windows are among tokens that begin with those of
    :func:`real_places` at number ``first``; ``missing`` where there is none: (windows window²)."""
    step = torch.arange(window)
    real = (step < group.high)[:, None] & (step < group.wide)
    own = first + step[:, None] * group.wide + step
    number = torch.arange(len(group.rows) * len(group.columns))[:, None, None]
    return (own + number * (group.high * group.wide)).where(real, missing).flatten()


def put_back(parts: list[Tensor], grouped: list[list[Group]]) -> Tensor:
    """(B * windows) x high x wide x C of all groups of a grid, in their order, into B x H x W x C, as one gather."""
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


def in_windows(tokens: Tokens, pad: Tensor, height: int, width: int, window: int, attend: Attend) -> Tensor:
    """Attention in windows over a grid of ``height`` x ``width`` tokens. Padded tokens are keys and values; queries are
    real ones only, so that windows which reach beyond an edge are taken apart from the whole ones, which hold most
    tokens and have no padding to be put beside them. Lists of places are made of numbers alone: a runtime computes them
    when it loads a graph.

    Args:
        tokens: from places in the grid (P numbers, row by row) to what is there: queries, keys and values, each B x P x
            C.
        pad: what a padded token has (3C).
        attend: from N x high x wide x C queries, N x window² x C keys and values and their group to N x (high wide) x
            C.

    Returns:
        B x H x W x C.
    """
    grouped = groups(height, width, window)
    whole, edge = [], list[Group]()
    for group in itertools.chain.from_iterable(grouped):
        (whole if group.high == group.wide == window else edge).append(group)
    parts = [_attend_whole(tokens, group, width, window, attend) for group in whole]
    return put_back(parts + _attend_edge(tokens, pad, edge, width, window, attend), grouped)


def _attend_whole(tokens: Tokens, group: Group, width: int, window: int, attend: Attend) -> Tensor:
    query, key, value = tokens(real_places(group, width, window))
    query = query.reshape(-1, window, window, query.shape[-1])
    key, value = (x.reshape(-1, window**2, x.shape[-1]) for x in (key, value))
    return attend(query, key, value, group).reshape(query.shape)


def _attend_edge(
    tokens: Tokens, pad: Tensor, edge: list[Group], width: int, window: int, attend: Attend
) -> list[Tensor]:
    if not edge:
        return []
    places = [real_places(group, width, window) for group in edge]
    query, *others = tokens(torch.cat(places))
    batch, missing, channels = query.shape
    near = [torch.cat([x, own.expand(batch, 1, channels)], 1) for x, own in zip(others, pad.chunk(3)[1:], strict=True)]
    parts, first = list[Tensor](), 0
    for group, own in zip(edge, places, strict=True):
        index = padded_places(group, window, first, missing).to(query.device)
        key, value = (x.index_select(1, index).reshape(-1, window**2, channels) for x in near)
        real = query[:, first : first + len(own)].reshape(-1, group.high, group.wide, channels)
        parts.append(attend(real, key, value, group).reshape(real.shape))
        first += len(own)
    return parts


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
