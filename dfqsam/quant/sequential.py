"""Calibration on already quantized inputs: one forward pass in which every site is quantized as it is reached."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dfqsam.config import QuantConfig
from dfqsam.quant.build import build_layer, build_product, site_bits
from dfqsam.quant.layers import QuantizedLayer, replace
from dfqsam.quant.observe import Sample, factors
from dfqsam.quant.product import QuantizedProduct
from dfqsam.sam.sites import Site


@torch.no_grad()
def quantize_in_sequence(
    encoder: nn.Module,
    sites: list[Site],
    chosen: list[Site],
    images: Tensor,
    config: QuantConfig,
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Quantizes the ``chosen`` sites in place, each on what the quantized sites before it give.

    A product that runs several times in a pass (attention in chunks of rows) is calibrated on the first.

    Args:
        sites: all of the encoder, in the order of execution.
        images: all calibration images in one batch, B x 3 x S x S, normalised.
        advance: called after every site.
    """
    built: dict[str, nn.Module] = {}

    def quantize(site: Site, seed: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def sampled(value: Tensor, offset: int = 0) -> Tensor:
            sample = Sample(config.rows, seed + offset)
            sample.add(value)
            return sample.values()

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
            known = built.get(site.name)
            if known is not None:
                return known(*inputs)
            bits = site_bits(site, sites, config)
            if site.kind == "product":
                first, second = factors(site.name, *inputs)
                product: QuantizedProduct = build_product(site, sampled(first), sampled(second, 1), bits[1], config)
                built[site.name] = product
                advance()
                return product(*inputs)
            layer: QuantizedLayer
            layer, change = build_layer(encoder, site, sampled(inputs[0]), bits, config)
            built[site.name] = layer
            advance()
            # The norm has run before it was changed.
            return layer(inputs[0] if change is None else change.apply(inputs[0]))

        return hook

    hooks = [
        encoder.get_submodule(site.name).register_forward_hook(quantize(site, i * 7919))
        for i, site in enumerate(chosen)
    ]
    try:
        encoder(images)
    finally:
        for handle in hooks:
            handle.remove()
    for name, module in built.items():
        replace(encoder, name, module)
