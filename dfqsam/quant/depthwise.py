"""Scales of depthwise channels judged by what the filters make of them.

A filter that takes differences of neighbours cancels what they have in common, also an end that is cut off, and keeps
what differs, which is the noise of rounding. So it likes a finer step than the squared error of its input does: on
LiteMedSAM's first block at 4 bits, scales judged here leave 0.127 of the output's variance as error on real pictures,
those judged by the input 0.175.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.quant.encoder import quantized_layers
from dfqsam.quant.grid import fake_quantize
from dfqsam.quant.layers import QuantizedConv
from dfqsam.quant.rescaling import Rescaling

FACTORS = (1.5, 1.25, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


def depthwise_layers(encoder: nn.Module) -> dict[str, QuantizedConv]:
    """The quantized convolutions of ``encoder`` with a scale a channel, by name."""
    return {
        name: layer
        for name, layer in quantized_layers(encoder).items()
        if isinstance(layer, QuantizedConv) and layer.groups > 1 and layer.divisor is not None
    }


@torch.no_grad()
def refine_depthwise(
    reference: nn.Module,
    encoder: nn.Module,
    batches: Sequence[Tensor],
    fit: int,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, int]:
    """Chooses the scales of depthwise channels of ``encoder`` anew, in place; by layer, how many channels got another.

    Args:
        reference: the encoder in full precision, whose filters and inputs judge.
        batches: normalised images, each 1 x 3 x S x S; a factor must help the first ``fit`` most of all factors, and
            the others too.
        advance: called after every layer.
    """
    layers, report = depthwise_layers(encoder), {}
    for name, layer in layers.items():
        conv = reference.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        assert layer.divisor is not None
        errors = torch.zeros(2, 1 + len(FACTORS), len(layer.divisor))
        for i, x in enumerate(_inputs(reference, conv, batches)):
            errors[int(i >= fit)] += torch.stack([_error(conv, layer, x, factor) for factor in (1.0, *FACTORS)])
        best = errors[0].argmin(0)
        helps = errors[1].gather(0, best[None])[0] < errors[1, 0]
        factor = torch.tensor((1.0, *FACTORS))[torch.where(helps, best, 0)]
        rescale(layer, factor)
        report[name] = int(helps.sum())
        advance()
    return report


def rescale(layer: QuantizedConv, factor: Tensor) -> None:
    """Makes the steps of the channels ``factor`` (C, positive) times as large, zero staying the code that it is; codes
    of the filters stay."""
    assert layer.divisor is not None
    each = len(layer.scale) // len(factor)
    outputs = factor.repeat_interleave(each)
    if layer.center is not None:
        # In full precision, what the bias holds for the center: it grows with the center.
        held = layer.origin.sum(-1).flatten() * (layer.center / layer.divisor).repeat_interleave(each)
        layer.add_bias(held * (outputs - 1))
        layer.center = layer.center * factor
    layer.divisor = layer.divisor * factor
    layer.scale = layer.scale * outputs
    layer.origin = layer.origin * outputs.reshape(*layer.origin.shape[:2], 1)


def _inputs(reference: nn.Module, conv: nn.Module, batches: Sequence[Tensor]) -> list[Tensor]:
    """What enters ``conv``, image by image: 1 x H x W x C."""
    seen: list[Tensor] = []
    handle = conv.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        for batch in batches:
            reference(batch)
    finally:
        handle.remove()
    return seen


def _error(conv: nn.Conv2d, layer: QuantizedConv, x: Tensor, factor: float) -> Tensor:
    """C: squared error of what the filters of ``conv`` make of the rounded input."""
    assert layer.divisor is not None
    center = torch.zeros_like(layer.divisor) if layer.center is None else layer.center
    change = Rescaling(center * factor, layer.divisor * factor)
    wrong = change.undo(fake_quantize(change.apply(x), layer.grid)) - x
    out = F.conv2d(wrong.permute(0, 3, 1, 2), conv.weight, None, conv.stride, conv.padding, groups=conv.groups)
    return out.square().sum((0, 2, 3)).reshape(len(layer.divisor), -1).sum(1)
