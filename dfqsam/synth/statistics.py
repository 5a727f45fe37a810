"""Batch-norm statistics as a prior: what the convolutions of the encoder gave on its training pictures.

Source: Yin et al., Dreaming to Distill (DeepInversion, CVPR 2020), section 3.2; the prior that Qimera, TexQ and ACQ
rest on. Here the moments are those of the whole synthetic *set*: an image is free to be dark or bright as long as the
set is like the training pictures, where moments of each small batch would make all images alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Channels that a batch norm has switched off have no distribution to match.
LEAST_DEVIATION = 1e-3
Moments = dict[str, tuple[Tensor, Tensor]]


class MomentTap:
    """Collects per-image channel moments of the named layers while it is entered.

    Attributes:
        moments: by name, mean and mean square over positions, each B x C. The layers see real pixels only: synthetic
            images fill the square, and windows are padded behind the convolutions.
    """

    def __init__(self, encoder: nn.Module, names: Mapping[str, object]) -> None:
        self.modules = {name: encoder.get_submodule(name) for name in names}
        self.moments: Moments = {}

    def __enter__(self) -> MomentTap:
        def keep(name: str):
            def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
                y = output.float()
                self.moments[name] = (y.mean((1, 2)), y.square().mean((1, 2)))

            return hook

        self.hooks = [module.register_forward_hook(keep(name)) for name, module in self.modules.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


class SetMoments:
    """Moments of every image of a set, so that a batch can be judged as a part of it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.known: dict[str, tuple[Tensor, Tensor]] = {}
        self.seen = torch.zeros(count, dtype=torch.bool)

    def put(self, index: slice, moments: Moments) -> None:
        """Remembers the moments of images ``index``, detached."""
        for name, (first, second) in moments.items():
            if name not in self.known:
                shape = (self.count, first.shape[1])
                self.known[name] = (first.new_zeros(shape), first.new_zeros(shape))
            self.known[name][0][index] = first.detach()
            self.known[name][1][index] = second.detach()
        self.seen[index] = True

    def with_batch(self, index: slice, moments: Moments) -> Moments:
        """Mean moments (each C) of the set in which images ``index`` have ``moments``; differentiable in these."""
        others = self.seen.clone()
        others[index] = False
        rest = int(others.sum())
        whole: Moments = {}
        for name, (first, second) in moments.items():
            share = len(first) / (len(first) + rest)
            one, two = first.mean(0) * share, second.mean(0) * share
            if rest:
                known = self.known[name]
                one = one + known[0][others].mean(0) * (1 - share)
                two = two + known[1][others].mean(0) * (1 - share)
            whole[name] = (one, two)
        return whole


def distance(moments: Moments, targets: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """How far moments (mean and mean square, each C) are from targets (mean and deviation, each C); a scalar.

    Per layer the mean over channels of ((m - mu) / sigma)² + (log(s / sigma))², s being the set's deviation, averaged
    over layers: 0 for a perfect match, and the same for every scale of the weights.
    """
    layers = []
    for name, (first, second) in moments.items():
        mean, deviation = targets[name]
        alive = deviation > LEAST_DEVIATION
        mean, deviation, first, second = mean[alive], deviation[alive], first[alive], second[alive]
        spread = (second - first.square()).clamp_min(0) + (1e-3 * deviation).square()
        shift = ((first - mean) / deviation).square()
        layers.append((shift + (0.5 * spread.log() - deviation.log()).square()).mean())
    return torch.stack(layers).mean()
