"""Calibration and quantization of a whole encoder, in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from dfqsam.config import QuantConfig
from dfqsam.quant.grid import weight_scales
from dfqsam.quant.layers import QuantizedConv, QuantizedLayer, QuantizedLinear, replace
from dfqsam.quant.observe import observe
from dfqsam.quant.ranges import search_range
from dfqsam.quant.reparameterize import reparameterize
from dfqsam.sam.sites import Site


def quantizable(sites: list[Site], config: QuantConfig) -> list[Site]:
    """The sites that ``config`` quantizes: Linears and dense convolutions outside ``config.keep``."""
    return [s for s in sites if s.kind in ("linear", "conv") and not s.name.startswith(config.keep)]


@torch.no_grad()
def quantize_encoder(
    encoder: nn.Module,
    sites: list[Site],
    batches: Iterable[Tensor],
    count: int,
    config: QuantConfig,
    advance: Callable[[], object] = lambda: None,
) -> list[str]:
    """Replaces the quantizable sites of ``encoder`` by quantized layers and returns their names.

    Args:
        sites: of this encoder, in the order of execution.
        batches: ``count`` batches of normalised calibration images, B x 3 x S x S.
        advance: called after every site.
    """
    chosen = quantizable(sites, config)
    samples = observe(encoder, [site.name for site in chosen], batches, count, config.rows)
    for site in chosen:
        layer = encoder.get_submodule(site.name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        values = samples.pop(site.name)
        if config.reparameterize and site.norm is not None:
            norm = encoder.get_submodule(site.norm)
            assert isinstance(norm, nn.LayerNorm)
            values = reparameterize(norm, layer, values)
        grid = search_range(values, config.activation_bits)
        scale = weight_scales(layer.weight, config.weight_bits, pairs=isinstance(layer, nn.Linear))
        make = QuantizedLinear.of if isinstance(layer, nn.Linear) else QuantizedConv.of
        replace(encoder, site.name, make(layer, scale, grid, config.weight_bits))  # type: ignore[arg-type]
        advance()
    return [site.name for site in chosen]


def quantized_layers(encoder: nn.Module) -> dict[str, QuantizedLayer]:
    """Every quantized layer of ``encoder`` by its name."""
    return {name: module for name, module in encoder.named_modules() if isinstance(module, QuantizedLayer)}
