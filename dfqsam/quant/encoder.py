"""Calibration and quantization of a whole encoder, in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from dfqsam.config import QuantConfig
from dfqsam.errors import InputError
from dfqsam.quant.block_linear import BlockLinear
from dfqsam.quant.build import build_layer, build_product, quantizable, site_bits
from dfqsam.quant.layers import CodedLayer, replace
from dfqsam.quant.observe import observe
from dfqsam.quant.rounding import round_for_storage
from dfqsam.quant.sequential import quantize_in_sequence
from dfqsam.sam.sites import Site

__all__ = ["quantizable", "quantize_encoder", "quantized_layers"]


@torch.no_grad()
def quantize_encoder(
    encoder: nn.Module,
    sites: list[Site],
    batches: Iterable[Tensor],
    count: int,
    config: QuantConfig,
    advance: Callable[[], object] = lambda: None,
    samples: dict[str, Tensor] | None = None,
) -> list[str]:
    """Replaces the quantizable sites of ``encoder`` by quantized modules and returns their names.

    What is large and stays in floating point is rounded for storage (:mod:`dfqsam.quant.rounding`).

    Args:
        sites: of this encoder, in the order of execution.
        batches: ``count`` batches of normalised calibration images, B x 3 x S x S.
        advance: called after every site.
        samples: what :func:`observe` found for at least these sites, to spare a pass over ``batches``; left as it is.
            Where only weights are rounded nothing is observed.
            Calibration on quantized inputs looks for itself and needs ``batches`` all the same.

    Raises:
        InputError: when calibration on quantized inputs gets no images.
    """
    chosen = quantizable(sites, config)
    names = [site.name for site in chosen]
    if config.upstream == "quantized":
        images = list(batches)
        if not images:
            raise InputError("Calibration on quantized inputs needs the images themselves; give at least one batch.")
        quantize_in_sequence(encoder, sites, chosen, torch.cat(images), config, advance)
        round_for_storage(encoder, config.keep)
        return names
    if config.block is not None:
        for name in names:
            layer = encoder.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            replace(encoder, name, BlockLinear.of(layer, config.block))
            advance()
        round_for_storage(encoder, config.keep)
        return names
    own = samples is None
    found = observe(encoder, names, batches, count, config.rows) if samples is None else samples

    def take(key: str) -> Tensor:
        return found.pop(key) if own else found[key]

    for site in chosen:
        bits = site_bits(site, sites, config)
        if site.kind == "product":
            module: nn.Module = build_product(site, take(f"{site.name}.a"), take(f"{site.name}.b"), bits[1], config)
        else:
            module, _ = build_layer(encoder, site, take(site.name), bits, config)
        replace(encoder, site.name, module)
        advance()
    round_for_storage(encoder, config.keep)
    return names


def quantized_layers(encoder: nn.Module) -> dict[str, CodedLayer]:
    """Every quantized layer of ``encoder`` by its name."""
    return {name: module for name, module in encoder.named_modules() if isinstance(module, CodedLayer)}
