"""Observers: a bounded random sample of what enters each site, and its extremes, taken in full precision.

Of each channel the least and the greatest value are seen over everything that enters: a sample of some hundred rows
misses most of them, and a grid of a channel's own then cuts off what real pictures bring.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dfqsam.sam.sites import Product

# Depthwise convolutions get a range for each channel, which takes so many times the values of one for a whole tensor.
PER_CHANNEL = 8
COVERING = 6  # bits of activations from which on a grid covers extremes


@dataclass
class Sample:
    """Rows of channels-last tensors (… x C) that entered a site, at most ``share`` values a call, chosen at random,
    and the extremes of each channel over all rows."""

    share: int
    seed: int
    rows: list[Tensor] = field(default_factory=list)
    low: Tensor | None = None
    high: Tensor | None = None

    def stretch(self, x: Tensor) -> None:
        """Lets ``x`` count for the extremes only."""
        flat = x.detach().reshape(-1, x.shape[-1]).float()
        low, high = flat.amin(0), flat.amax(0)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    def add(self, x: Tensor) -> None:
        self.stretch(x)
        flat = x.reshape(-1, x.shape[-1])
        count = max(1, self.share // flat.shape[1])
        if count < len(flat):
            generator = torch.Generator().manual_seed(self.seed + len(self.rows))
            flat = flat[torch.randint(len(flat), (count,), generator=generator)]
        self.rows.append(flat.detach().float().clone())

    def values(self) -> Tensor:
        """rows x channels; the last two rows are the extremes of each channel."""
        assert self.low is not None
        assert self.high is not None
        return torch.cat([*self.rows, torch.stack([self.low, self.high])])


def searched(values: Tensor, bits: int) -> Tensor:
    """Of ``values`` (:meth:`Sample.values`) the rows that a grid of ``bits`` is searched in: all where it can afford to
    cover the extremes, else those of the sample. (LiteMedSAM, 151 masks: with extremes w6a6 agrees at 96.2 and W4A4 at
    81.4, without them at 95.5 and 82.9.)"""
    return values if bits >= COVERING else values[:-2]


def is_softmax(name: str) -> bool:
    """Whether the first factor of the product called ``name`` is a softmax, in every family."""
    return name.rpartition(".")[2] == "matmul_av"


def factors(name: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both factors of a product (B x heads x M x K, B x heads x K x N), channels last: of queries, keys and values
    those of all heads (… x heads K, … x heads N); of a softmax one for each key (… x K)."""
    if is_softmax(name):
        return a, b.transpose(1, 2).flatten(2)
    return a.transpose(1, 2).flatten(2), b.permute(0, 3, 1, 2).flatten(2)


def keys(name: str, module: nn.Module) -> list[str]:
    """What :func:`observe` calls the inputs of a site: its name, or ``name.a`` and ``name.b`` for a product's two."""
    return [f"{name}.a", f"{name}.b"] if isinstance(module, Product) else [name]


@torch.no_grad()
def observe(
    encoder: nn.Module,
    names: list[str],
    batches: Iterable[Tensor],
    count: int,
    rows: int,
    beyond: Iterable[Tensor] = (),
) -> dict[str, Tensor]:
    """Runs ``encoder`` on ``batches`` (``count`` of them) and returns, per input, the rows x channels that entered it.

    An input is called as its site; the two of a product are called ``name.a`` and ``name.b`` (:func:`keys`).

    Args:
        names: module names inside the encoder.
        batches: normalised images, B x 3 x S x S.
        rows: values kept per input over all batches; a site that runs several times a batch keeps as many each time,
            a depthwise convolution :data:`PER_CHANNEL` times as many.
        beyond: more images, whose extremes count but whose rows are not kept.
    """
    samples: dict[str, Sample] = {}
    hooks = []
    keeping = True
    for i, name in enumerate(names):
        module = encoder.get_submodule(name)
        share = rows // count * (PER_CHANNEL if getattr(module, "groups", 1) > 1 else 1)
        own = [Sample(max(1, share), i * 7919 + j) for j in range(len(keys(name, module)))]
        samples |= dict(zip(keys(name, module), own, strict=True))

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], own: list[Sample] = own, name: str = name) -> None:
            values = factors(name, *inputs) if isinstance(module, Product) else inputs
            for sample, value in zip(own, values, strict=True):
                (sample.add if keeping else sample.stretch)(value)

        hooks.append(module.register_forward_pre_hook(hook))
    try:
        for batch in batches:
            encoder(batch)
        keeping = False
        for batch in beyond:
            encoder(batch)
    finally:
        for handle in hooks:
            handle.remove()
    return {name: sample.values() for name, sample in samples.items()}
