"""Where and in which channels a feature map is strong, as two distributions: pure maths on tensors.

Source: AKT (arXiv 2412.19125), whose student keeps the spatial and the channel attention of its teacher. There a second
softmax makes both distributions all but flat, which a weight of 1000 makes good; here there is one softmax, whose
temperature is set by the teacher, so that its entropy is a given share of the largest one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SHARE = 0.65  # of the entropy of a flat distribution


@dataclass(frozen=True)
class Attention:
    """A teacher's attention to one feature map: logarithms of the distributions over tokens and over channels, and
    what a student's are made with: the scale of each channel and both temperatures."""

    spatial: Tensor
    channel: Tensor
    scale: Tensor
    temperatures: tuple[float, float]


def strengths(features: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """How strong H x W x C features are at each token (H W) and in each channel (C).

    Channels are divided by ``scale`` (C) before they are added up at a token: a few large ones would drown the rest.
    The strength of a channel is the logarithm of its mean square.
    """
    tokens = features.flatten(0, -2)
    return (tokens / scale).square().mean(1), tokens.square().mean(0).clamp_min(1e-12).log()


def temperature_for(values: Tensor, share: float = SHARE) -> float:
    """The temperature at which softmax(values / temperature) has ``share`` of the entropy of a flat distribution."""
    low, high = -12.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        if entropy((values / math.exp(middle)).log_softmax(0)) < share * math.log(max(len(values), 2)):
            low = middle
        else:
            high = middle
    return math.exp(high)


def entropy(logarithms: Tensor) -> float:
    """Of a distribution given by its logarithms, in nats.

    >>> round(entropy(torch.full((4,), 0.25).log()), 4)
    1.3863
    """
    return float(-(logarithms.exp() * logarithms).sum())


@torch.no_grad()
def teach(features: Tensor) -> Attention:
    """The attention of a teacher's features, H x W x C."""
    scale = features.flatten(0, -2).square().mean(0).sqrt().clamp_min(1e-6)
    spatial, channel = strengths(features, scale)
    temperatures = temperature_for(spatial), temperature_for(channel)
    return Attention(
        (spatial / temperatures[0]).log_softmax(0), (channel / temperatures[1]).log_softmax(0), scale, temperatures
    )


def attention_losses(features: Tensor, teacher: Attention) -> tuple[Tensor, Tensor]:
    """Kullback-Leibler divergence of the spatial and of the channel attention of H x W x C ``features`` from those of
    ``teacher``; two scalars, at least 0."""
    spatial, channel = strengths(features, teacher.scale)
    found = (spatial / teacher.temperatures[0]).log_softmax(0), (channel / teacher.temperatures[1]).log_softmax(0)
    return _divergence(teacher.spatial, found[0]), _divergence(teacher.channel, found[1])


def _divergence(true: Tensor, found: Tensor) -> Tensor:
    return (true.exp() * (true - found)).sum()
