"""What reconstruction and distillation have in common: rates, the optimiser, and states to come back to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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


def optimiser_of(learned: dict[str, Learned], rates: Learning) -> torch.optim.Optimizer:
    modules = list(learned.values())
    layers = [module for module in modules if isinstance(module, LearnedLayer)]
    return torch.optim.Adam(
        [
            {"params": [layer.latent for layer in layers], "lr": rates.codes},
            {"params": [module.widening for module in modules], "lr": rates.ranges},
            {"params": [layer.shift for layer in layers], "lr": rates.biases},
        ]
    )


def state_of(learned: dict[str, Learned]) -> list[Tensor]:
    """The parameters as they are now."""
    return [parameter.detach().clone() for module in learned.values() for parameter in module.parameters()]


@torch.no_grad()
def restore(learned: dict[str, Learned], state: list[Tensor]) -> None:
    """Puts back what :func:`state_of` gave."""
    parameters = (parameter for module in learned.values() for parameter in module.parameters())
    for parameter, value in zip(parameters, state, strict=True):
        parameter.copy_(value)
