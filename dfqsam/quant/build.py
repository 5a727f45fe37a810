"""From a site and what enters it to the quantized module that takes its place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfqsam.config import ROTATION, QuantConfig
from dfqsam.quant.channels import Matrix, search_channels, search_rescaling, search_scales, search_strength
from dfqsam.quant.evening import QueriesAndKeys, Values
from dfqsam.quant.grid import WHOLE, weight_scales
from dfqsam.quant.layers import QuantizedConv, QuantizedLayer, QuantizedLinear
from dfqsam.quant.logarithmic import OCTAVES, SQRT2, search_log_grid
from dfqsam.quant.observe import is_softmax, searched
from dfqsam.quant.product import QuantizedProduct
from dfqsam.quant.ranges import search_range
from dfqsam.quant.reparameterize import moves_zero, reparameterize, rescaling
from dfqsam.quant.rescaling import Rescaling
from dfqsam.quant.rotation import rotate
from dfqsam.sam.sites import Site


def quantizable(sites: list[Site], config: QuantConfig) -> list[Site]:
    """The sites outside ``config.keep`` that ``config`` quantizes, in the order of ``sites``."""
    if config.block is not None:
        return [site for site in sites if site.matrix and not site.name.startswith(config.keep)]
    kinds = {"linear", "conv"}
    if config.depthwise == "integer":
        kinds.add("depthwise")
    if config.products:
        kinds.add("product")
    return [site for site in sites if site.kind in kinds and not site.name.startswith(config.keep)]


def site_bits(site: Site, sites: list[Site], config: QuantConfig) -> tuple[int, int]:
    """Bits of the weights and of the activations of ``site``, whose activations ``config`` rounds.

    Args:
        sites: all of the encoder, in the order of execution.
    """
    if config.edge_bits is not None and (site.source == "image" or site.name == sites[-1].name):
        return config.edge_bits, config.edge_bits
    assert config.activation_bits is not None
    weight_bits = dict(config.layer_bits).get(site.name, config.weight_bits)
    return weight_bits, config.gelu_bits if site.source == "gelu" else config.activation_bits


@torch.no_grad()
def build_layer(
    encoder: nn.Module,
    site: Site,
    values: Tensor,
    bits: tuple[int, int],
    config: QuantConfig,
) -> tuple[QuantizedLayer, Rescaling | None]:
    """The quantized layer for a Linear or convolution, which is left in its place.

    Args:
        values: rows x C, a sample of what enters and the extremes (:class:`dfqsam.quant.observe.Sample`).
        bits: of weights and activations.
        config: says whether the spread of what enters is moved into the weights, by reparameterization (which changes
            the site and its norm in place) or in the layer itself.

    Returns:
        The layer, and what was done to its input by reparameterization, if anything was.
    """
    layer = encoder.get_submodule(site.name)
    weight_bits, activation_bits = bits
    values = searched(values, activation_bits)
    compensated = "weights" in config.passes and weight_bits < WHOLE
    change, rotated = None, False
    if config.reparameterize is not None and site.norm is not None:
        norm = encoder.get_submodule(site.norm)
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        rotated = config.reparameterize == ROTATION and isinstance(layer, nn.Linear)
        target = "center" if config.reparameterize == ROTATION else config.reparameterize
        change = rescaling(values, target, activation_bits, moves_zero(layer))
        if rotated:  # the middles are taken out; what sticks out is spread, not divided
            change = Rescaling(change.center, torch.ones_like(change.ratio))
        elif config.channel_scales and isinstance(layer, nn.Linear):
            change = search_strength(Matrix.of(layer.weight, values, bits, compensated), change)
        reparameterize(norm, layer, change)
        values = change.apply(values)
    if rotated:
        assert isinstance(layer, nn.Linear)
        scale, grid = (
            weight_scales(rotate(layer.weight), weight_bits, pairs=True),
            search_range(rotate(values), activation_bits),
        )
        return QuantizedLinear.of(layer, scale, grid, weight_bits, rotated=True), change
    if isinstance(layer, nn.Linear):
        own, grid = None, None
        if config.channel_scales and site.norm is None and site.source != "image":
            own, grid = search_rescaling(Matrix.of(layer.weight, values, bits, compensated), values)
            own = None if own is None else own.halved()
        grid = grid or search_range(values, activation_bits)
        weight = layer.weight if own is None else layer.weight * own.ratio
        scale = weight_scales(weight, weight_bits, pairs=True)
        return QuantizedLinear.of(layer, scale, grid, weight_bits, own), change
    assert isinstance(layer, nn.Conv2d)
    if site.kind == "depthwise":
        padded = any(int(p) for p in layer.padding)
        found, grid = (
            search_channels(values, activation_bits, padded)
            if config.channel_scales
            else search_scales(values, activation_bits)
        )
        return QuantizedConv.of(layer, grid, weight_bits, found.halved()), change
    own, grid = None, None
    if config.channel_scales and site.norm is None and site.source == "layernorm":  # a norm that others read too
        taps = layer.weight.permute(0, 2, 3, 1).flatten(0, 2)  # as if every place of the kernel were a matrix
        own, grid = search_rescaling(Matrix.of(taps, values, bits, compensated), values)
    grid = grid or search_range(values, activation_bits)
    return QuantizedConv.of(layer, grid, weight_bits, None if own is None else own.halved()), change


@torch.no_grad()
def build_product(site: Site, a: Tensor, b: Tensor, bits: int, config: QuantConfig) -> QuantizedProduct:
    """The quantized product for samples of its two factors, as :func:`dfqsam.quant.observe.observe` takes them; softmax
    outputs get a logarithmic grid."""
    a, b = searched(a, bits), searched(b, bits)
    softmax, evening = is_softmax(site.name), None
    if config.evened:
        evening = Values.of(b) if softmax else QueriesAndKeys.of(a, b)
        a, b = evening.alike(a, b)
    octaves = SQRT2 if config.softmax == "sqrt2" else OCTAVES
    left = search_log_grid(a, bits, octaves) if softmax else search_range(a, bits)
    return QuantizedProduct(left, search_range(b, bits), evening)
