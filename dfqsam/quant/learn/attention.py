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
    """A teacher's attention to the feature maps of B images: logarithms of the distributions over tokens (B x H W) and
    over channels (B x C), and what a student's are made with: the scale of each channel (B x 1 x C) and both
    temperatures (B x 1 each)."""

    spatial: Tensor
    channel: Tensor
    scale: Tensor
    temperatures: tuple[Tensor, Tensor]


def strengths(features: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """How strong B x H x W x C features are at each token (B x H W) and in each channel (B x C).

    Channels are divided by ``scale`` (B x 1 x C) before they are added up at a token: a few large ones would drown the
    rest. The strength of a channel is the logarithm of its mean square.
    """
    tokens = features.flatten(1, -2)
    return (tokens / scale).square().mean(2), tokens.square().mean(1).clamp_min(1e-12).log()


def temperatures_for(values: Tensor, share: float = SHARE) -> Tensor:
    """B x 1: the temperatures at which softmax(values / temperature) of each row of ``values`` (B x N) has ``share`` of
    the entropy of a flat distribution."""
    low, high = torch.full_like(values[:, :1], -12.0), torch.full_like(values[:, :1], 12.0)
    wanted = share * math.log(max(values.shape[1], 2))
    for _ in range(40):
        middle = (low + high) / 2
        small = entropy((values / middle.exp()).log_softmax(1))[:, None] < wanted
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)
    return high.exp()


def entropy(logarithms: Tensor) -> Tensor:
    """Of B distributions given by their logarithms (B x N), in nats; B.

    >>> entropy(torch.full((1, 4), 0.25).log())
    tensor([1.3863])
    """
    return -(logarithms.exp() * logarithms).sum(1)


@torch.no_grad()
def teach(features: Tensor) -> Attention:
    """The attention of a teacher's features, B x H x W x C."""
    scale = features.flatten(1, -2).square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
    spatial, channel = strengths(features, scale)
    temperatures = temperatures_for(spatial), temperatures_for(channel)
    return Attention(
        (spatial / temperatures[0]).log_softmax(1), (channel / temperatures[1]).log_softmax(1), scale, temperatures
    )


def attention_losses(features: Tensor, teacher: Attention) -> tuple[Tensor, Tensor]:
    """Kullback-Leibler divergence of the spatial and of the channel attention of B x H x W x C ``features`` from those
    of ``teacher``; two scalars, at least 0, means over the images."""
    spatial, channel = strengths(features, teacher.scale)
    found = (spatial / teacher.temperatures[0]).log_softmax(1), (channel / teacher.temperatures[1]).log_softmax(1)
    return _divergence(teacher.spatial, found[0]), _divergence(teacher.channel, found[1])


def _divergence(true: Tensor, found: Tensor) -> Tensor:
    return (true.exp() * (true - found)).sum(1).mean()
