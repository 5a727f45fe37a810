"""Stand-ins for quantized modules, in which what was fixed is a parameter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace as changed
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.quant.grid import WHOLE, Affine
from dfqsam.quant.layers import QuantizedConv, QuantizedLayer, replace
from dfqsam.quant.learn.steps import dropped, hard_codes, interval, leaning, log_straight, round_to_step
from dfqsam.quant.logarithmic import Logarithmic
from dfqsam.quant.product import QuantizedProduct


class LearnedLayer(nn.Module):
    """A quantized layer whose codes, activation step and bias are learned.

    Attributes:
        soft: compute with the latent codes as they are, somewhere between two integers each, so that rounding errors
            can make up for each other while they are learned; otherwise, and once hardened, with integers.
        lower: G x N/G x K, the smaller of the two integers that a code may become.
        latent: G x N/G x K, what the codes are rounded from.
        widening: logarithm of the factor that the activation step has grown by.
        stretch: G x N/G x 1, logarithms of the factors that the weight scales have grown by.
        shift: N, what the bias gains, in units of ``unit``.
        unit: the spread of the outputs, found when the first ones are seen, so that shifts need no scale of their own.
        drop: share of the activations that stay unrounded, for as long as the layer is in training mode.
    """

    def __init__(self, layer: QuantizedLayer, drop: float = 0.0) -> None:
        super().__init__()
        self.layer, self.drop, self.soft = layer, drop, False
        scale = layer.scale.reshape(*layer.origin.shape[:2], 1)
        origin = layer.origin.to(scale.device)
        codes = (layer.weights() / scale).round()
        self.lower = interval(codes, origin, scale, layer.weight_bits)
        self.latent = nn.Parameter(codes.clone())
        self.widening = nn.Parameter(torch.zeros((), device=scale.device))
        self.stretch = nn.Parameter(torch.zeros_like(scale))
        self.shift = nn.Parameter(torch.zeros_like(layer.scale))
        self.unit = 0.0

    def codes(self) -> Tensor:
        """G x N/G x K, as floats."""
        if self.soft:
            return self.latent
        codes = hard_codes(self.latent, self.layer.weight_bits)
        if self.layer.weight_bits == WHOLE:
            codes = codes + (self.layer.safe(codes.detach()) - codes.detach())
        return codes

    def step(self) -> Tensor:
        return self.layer.grid.scale * self.widening.exp()

    def scale(self) -> Tensor:
        """G x N/G x 1, of the weights."""
        return self.layer.scale.reshape(self.stretch.shape) * self.stretch.exp()

    def _rounded(self, x: Tensor) -> Tensor:
        rounded = round_to_step(x, self.step(), self.layer.grid)
        return dropped(rounded, x, self.drop if self.training else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        kernel = self.codes() * self.scale()
        if isinstance(layer, QuantizedConv):
            kernel, pad = kernel.reshape(layer.codes.shape), layer.padding
            x = layer.rescaled(F.pad(x, (0, 0, pad, pad, pad, pad)))
            y = F.conv2d(self._rounded(x.permute(0, 3, 1, 2)), kernel, stride=layer.stride, groups=layer.groups)
            y = y.permute(0, 2, 3, 1)
        else:
            y = F.linear(self._rounded(layer.rescaled(x)), kernel[0])
        if not self.unit:
            self.unit = max(float(y.detach().std()), 1e-8)
        y = y + self.shift * self.unit
        return y if layer.bias is None else y + layer.bias.reshape(-1)

    @torch.no_grad()
    def project(self) -> None:
        """Brings latent codes that a step has moved too far back between their two integers."""
        self.latent.copy_(torch.minimum(torch.maximum(self.latent, self.lower), self.lower + 1))

    @torch.no_grad()
    def lean(self) -> None:
        """Moves the latent codes towards the weights that they stand for; :meth:`straighten` takes that back."""
        scale = self.layer.scale.reshape(self.stretch.shape)
        self.latent.copy_(leaning(self.latent, self.layer.origin.to(scale.device), scale))

    @torch.no_grad()
    def straighten(self) -> None:
        """Makes integers of the latent codes."""
        self.latent.copy_(hard_codes(self.latent, self.layer.weight_bits))

    @torch.no_grad()
    def fix(self) -> None:
        """Makes integers of the codes and learns the rest only."""
        self.straighten()
        self.latent.requires_grad_(False)
        self.soft = False

    @torch.no_grad()
    def harden(self) -> QuantizedLayer:
        """Writes what was learned into the quantized layer, and returns it."""
        layer, grid, self.soft = self.layer, self.layer.grid, False
        layer.set_weights(self.codes(), self.scale()[..., 0])
        layer.grid = changed(grid, scale=float(self.step()))
        if bool(self.shift.any()):
            layer.add_bias(self.shift * self.unit)
        return layer


class LearnedProduct(nn.Module):
    """A quantized product whose steps are learned; the logarithmic grid of a softmax stays as it is."""

    def __init__(self, product: QuantizedProduct, device: torch.device | None = None) -> None:
        super().__init__()
        self.product = product
        self.widening = nn.Parameter(torch.zeros(2, device=device))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        left, right = self.product.left, self.product.right
        a, b = self.product.enter(a, b)
        if isinstance(left, Logarithmic):
            first = log_straight(a, left)
        else:
            first = round_to_step(a, left.scale * self.widening[0].exp(), left)
        return self.product.leave(first @ round_to_step(b, right.scale * self.widening[1].exp(), right))

    @torch.no_grad()
    def harden(self) -> QuantizedProduct:
        """Writes what was learned into the quantized product, and returns it."""
        factors, product = self.widening.exp().tolist(), self.product
        if isinstance(product.left, Affine):
            product.left = changed(product.left, scale=_float32(product.left.scale * factors[0]))
        product.right = changed(product.right, scale=_float32(product.right.scale * factors[1]))
        return product


Learned = LearnedLayer | LearnedProduct


def _float32(value: float) -> float:
    """The float32 next to ``value``: what the deployed graph multiplies with."""
    return float(torch.tensor(value, dtype=torch.float32))


@contextmanager
def learning(root: nn.Module, drop: float = 0.0) -> Iterator[dict[str, Learned]]:
    """Puts learned stand-ins in the place of all quantized modules of ``root`` for as long as the block runs, and at
    its end the quantized ones back, with what was learned; as they were when the block fails.

    Args:
        drop: see :class:`LearnedLayer`.
    """
    device = next((tensor.device for tensor in (*root.parameters(), *root.buffers())), None)
    kinds = (QuantizedLayer, QuantizedProduct)
    found = {name: module for name, module in root.named_modules() if isinstance(module, kinds)}
    made: dict[str, Learned] = {}
    for name, module in found.items():
        layer = isinstance(module, QuantizedLayer)
        made[name] = LearnedLayer(module, drop) if layer else LearnedProduct(module, device)
        replace(root, name, made[name])
    try:
        yield made
        for learned in made.values():
            learned.harden()
    finally:
        for name, module in found.items():
            replace(root, name, cast(nn.Module, module))
