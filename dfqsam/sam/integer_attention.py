"""Attention over a whole grid with both products on integers: what a deployed graph computes where that is faster.

Nothing is calibrated; ranges are those of the picture at hand. Queries have a scale a head in each strip of rows, keys
one a token and values one a channel. Keys lose their mean first, which adds the same to all scores of a query, so that
the softmax does not see it; it is what puts two peaks into the keys of SAM. Values lose theirs too and get it back at
the end, so that what small probabilities lose by rounding goes to the mean of the values and not to zero. Probabilities
are rounded before they are divided by their sum, on a grid that ends at the largest of each row.

Codes of keys and values reach 64: two products with codes of 255 then fit the 16 bits in which processors without VNNI
add them.

Sources: centred keys and scales a token, SageAttention (Zhang et al., ICLR 2025); two peaks of SAM's keys, PTQ4SAM (Lv
et al., CVPR 2024); the rest is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

QUERY_TOP, TOP, SHARE_TOP = 127, 64, 255  # largest codes of queries, of keys and values, of probabilities
LEAST = 1e-12  # that a range counts as, so that nothing is divided by zero
QUERIES = 256  # that a strip has about


def rows_of(side: int) -> int:
    """How many rows of queries of a grid of ``side`` x ``side`` tokens share a strip; all strips have as many.

    >>> rows_of(64), rows_of(16), rows_of(20), rows_of(1000)
    (4, 16, 10, 1)
    """
    return next(rows for rows in range(min(side, max(1, QUERIES // side)), 0, -1) if side % rows == 0)


def _rounded(x: Tensor, dims: tuple[int, ...], top: int) -> tuple[Tensor, Tensor]:
    """Codes and scales of x, a scale for all values along ``dims``."""
    scale = x.abs().amax(dims, keepdim=True).clamp(min=LEAST) / top
    return (x / scale).round(), scale


@torch.library.custom_op("dfqsam::attention_on_integers", mutates_args=())
def attention_on_integers(
    query: Tensor, key: Tensor, value: Tensor, vertical: Tensor, horizontal: Tensor, scale: float
) -> Tensor:
    """softmax(scale query keyᵀ + vertical + horizontal) value, the products on integers.

    Args:
        query, key, value: N x side² x D, tokens row by row.
        vertical, horizontal: N x side² x side, added for the row and the column that a key is in.

    Returns:
        N x side² x D.
    """
    side = vertical.shape[-1]
    keys, key_scale = _rounded(key - key.mean(1, keepdim=True), (2,), TOP)
    mean = value.mean(1, keepdim=True)
    values, value_scale = _rounded(value - mean, (1,), TOP)
    strips = []
    for first in range(0, side, rows_of(side)):
        own = slice(first * side, (first + rows_of(side)) * side)
        queries, query_scale = _rounded(query[:, own], (1, 2), QUERY_TOP)
        scores = (queries @ keys.mT) * (scale * (key_scale.mT * query_scale))
        scores = scores.unflatten(2, (side, side)) + horizontal[:, own, None]
        down = vertical[:, own, :, None]
        largest = (scores.amax(3, keepdim=True) + down).amax(2, keepdim=True)
        shares = (scores + (down - largest)).exp().flatten(2)
        codes = (shares / torch.tensor(1 / SHARE_TOP)).round()
        mixed = (codes @ values) * (value_scale / SHARE_TOP) / shares.sum(2, keepdim=True)
        strips.append(mixed + mean)
    return torch.cat(strips, 1)


@attention_on_integers.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, vertical: Tensor, horizontal: Tensor, scale: float) -> Tensor:
    return torch.empty_like(query)
