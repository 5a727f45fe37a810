"""What reconstruction and distillation have in common: rates, the optimiser, and states to come back to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfqsam.quant.learn.layers import Learned, LearnedLayer


@dataclass(frozen=True)
class Learning:
    """How parameters are learned.

    Attributes:
        steps: at most so many.
        batch: images a step.
        codes, ranges, biases: learning rates: of the latent codes, in units of the weight grid; of the logarithm of
            activation steps; of biases, in units of the spread of a layer's outputs. They fall to 0 by a cosine.
        checks: how often, evenly spread, the held-out images are asked whether things got better.
    """

    steps: int
    batch: int
    codes: float
    ranges: float
    biases: float
    checks: int = 8


Groups = list[dict[str, object]]


def groups_of(learned: dict[str, Learned], rates: Learning) -> Groups:
    """What an optimiser takes: latent codes, activation steps and biases, each kind at its rate."""
    modules = list(learned.values())
    layers = [module for module in modules if isinstance(module, LearnedLayer)]
    return [
        {"params": [layer.latent for layer in layers], "lr": rates.codes},
        {"params": [module.widening for module in modules], "lr": rates.ranges},
        {"params": [layer.shift for layer in layers], "lr": rates.biases},
    ]


def stretches_of(learned: dict[str, Learned], rate: float) -> Groups:
    """The logarithms of the factors of weight scales, at ``rate``."""
    return [{"params": [module.stretch for module in learned.values() if isinstance(module, LearnedLayer)], "lr": rate}]


def floats_of(floats: Iterable[nn.Parameter], rate: float) -> Groups:
    """Parameters in full precision, each at ``rate`` times its root mean square, so that the rate has no unit."""
    return [{"params": [p], "lr": rate * float(p.detach().square().mean().sqrt())} for p in floats]


def rate(share: float, warm: float) -> float:
    """The learning rate's factor after ``share`` of the steps: up in a line, then down by half a cosine."""
    if share < warm:
        return (share + 1e-3) / warm
    return 0.5 * (1 + math.cos(math.pi * (share - warm) / (1 - warm)))


def state_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as they are now."""
    return [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def restore(parameters: Iterable[Tensor], state: list[Tensor]) -> None:
    """Puts back what :func:`state_of` gave."""
    for parameter, value in zip(parameters, state, strict=True):
        parameter.copy_(value)


def parameters_of(learned: dict[str, Learned]) -> list[nn.Parameter]:
    """Of all learned modules, in one order."""
    return [parameter for module in learned.values() for parameter in module.parameters()]
