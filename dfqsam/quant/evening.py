"""What enters attention's products, its channels made alike: exact, and free on a device.

A grid for a whole tensor serves its widest channel. Queries and keys share theirs out, for q k = sum (q_i / r_i) (k_i
r_i); and keys may be moved, for q (k - c) is q k less a constant of the query, which no softmax sees. Of values, see
:mod:`dfqsam.quant.values`: (softmax v - c) / r = softmax ((v - c) / r). Scales and biases of the layer that makes
queries, keys and values take all that up, and the columns of the one that reads the outcome.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dfqsam.quant.ranges import channel_ranges

LEAST = 1e-6  # of a channel's reach


class Evening(nn.Module, ABC):
    """Base: ``ratio`` and ``center``, a number for every channel of every head (heads x K, flat)."""

    ratio: Tensor
    center: Tensor

    def __init__(self, ratio: Tensor, center: Tensor) -> None:
        super().__init__()
        self.register_buffer("ratio", ratio)
        self.register_buffer("center", center)

    @abstractmethod
    def alike(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Samples of both (rows x heads K, or rows x keys of a softmax) as they are rounded."""

    @abstractmethod
    def enter(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Both factors (B x heads x M x K, B x heads x K x N) as they are rounded."""

    @abstractmethod
    def leave(self, product: Tensor) -> Tensor:
        """What they give (B x heads x M x N), made up for; of scores but for a constant of each query."""


class QueriesAndKeys(Evening):
    """Queries divided and keys multiplied by ``ratio``, keys moved by ``center`` before."""

    @classmethod
    def of(cls, queries: Tensor, keys: Tensor) -> QueriesAndKeys:
        """For samples of both, rows x heads K: both reach equally far then, channel by channel."""
        low, high = channel_ranges(queries)
        reach = torch.maximum(low.abs(), high.abs()).clamp_min(LEAST)
        low, high = channel_ranges(keys)
        return cls((reach / ((high - low) / 2).clamp_min(LEAST)).sqrt(), (low + high) / 2)

    def alike(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return a / self.ratio, (b - self.center) * self.ratio

    def enter(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        ratio, center = (x.reshape(a.shape[1], 1, a.shape[-1]) for x in (self.ratio, self.center))
        return a / ratio, ((b.transpose(-2, -1) - center) * ratio).transpose(-2, -1)

    def leave(self, product: Tensor) -> Tensor:
        return product


class Values(Evening):
    """Values moved by ``center`` and divided by ``ratio``; their means are put back."""

    @classmethod
    def of(cls, values: Tensor) -> Values:
        """For a sample, rows x heads N: all channels reach equally far to both sides then."""
        low, high = channel_ranges(values)
        return cls(((high - low) / 2).clamp_min(LEAST), (low + high) / 2)

    def alike(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return a, (b - self.center) / self.ratio

    def enter(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        ratio, center = self._shaped(b)
        return a, (b - center) / ratio

    def leave(self, product: Tensor) -> Tensor:
        ratio, center = self._shaped(product)
        return product * ratio + center

    def _shaped(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = like.shape[1], 1, like.shape[-1]
        return self.ratio.reshape(shape), self.center.reshape(shape)
