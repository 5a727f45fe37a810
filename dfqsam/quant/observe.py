"""Observers: a bounded random sample of what enters each site, taken in full precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dfqsam.sam.sites import Product

# Depthwise convolutions get a range for each channel, which takes so many times the values of one for a whole tensor.
PER_CHANNEL = 8


@dataclass
class Sample:
    """Rows of channels-last tensors (… x C) that entered a site, at most ``share`` values a call, chosen at random."""

    share: int
    seed: int
    rows: list[Tensor] = field(default_factory=list)

    def add(self, x: Tensor) -> None:
        flat = x.reshape(-1, x.shape[-1])
        count = max(1, self.share // flat.shape[1])
        if count < len(flat):
            generator = torch.Generator().manual_seed(self.seed + len(self.rows))
            flat = flat[torch.randint(len(flat), (count,), generator=generator)]
        self.rows.append(flat.detach().float().clone())

    def values(self) -> Tensor:
        """rows x channels."""
        return torch.cat(self.rows)


def keys(name: str, module: nn.Module) -> list[str]:
    """What :func:`observe` calls the inputs of a site: its name, or ``name.a`` and ``name.b`` for a product's two."""
    return [f"{name}.a", f"{name}.b"] if isinstance(module, Product) else [name]


@torch.no_grad()
def observe(
    encoder: nn.Module, names: list[str], batches: Iterable[Tensor], count: int, rows: int
) -> dict[str, Tensor]:
    """Runs ``encoder`` on ``batches`` (``count`` of them) and returns, per input, the rows x channels that entered it.

    An input is called as its site; the two of a product are called ``name.a`` and ``name.b`` (:func:`keys`).

    Args:
        names: module names inside the encoder.
        batches: normalised images, B x 3 x S x S.
        rows: values kept per input over all batches; a site that runs several times a batch keeps as many each time,
            a depthwise convolution :data:`PER_CHANNEL` times as many.
    """
    samples: dict[str, Sample] = {}
    hooks = []
    for i, name in enumerate(names):
        module = encoder.get_submodule(name)
        share = rows // count * (PER_CHANNEL if getattr(module, "groups", 1) > 1 else 1)
        own = [Sample(max(1, share), i * 7919 + j) for j in range(len(keys(name, module)))]
        samples |= dict(zip(keys(name, module), own, strict=True))

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], own: list[Sample] = own) -> None:
            for sample, value in zip(own, inputs, strict=True):
                sample.add(value)

        hooks.append(module.register_forward_pre_hook(hook))
    try:
        for batch in batches:
            encoder(batch)
    finally:
        for handle in hooks:
            handle.remove()
    return {name: sample.values() for name, sample in samples.items()}
