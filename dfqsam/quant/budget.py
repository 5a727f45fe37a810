"""What every layer's weights cost at different bits, in the embedding's error and in bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from dfqsam.quant.gptq import gptq
from dfqsam.quant.grid import code_limits, weight_codes, weight_scales
from dfqsam.quant.observe import observe
from dfqsam.quant.units import entering_unit
from dfqsam.sam.sites import Site

CHOICES = (4, 8)  # six bits travel in eight-bit containers and save nothing
ROWS = 1 << 20  # values of each layer's inputs that its weights are compensated on


def stored_bytes(weight: Tensor, bits: int) -> int:
    """What ``weight`` takes in a bundle: two values a byte up to 4 bits, else one."""
    return (weight.numel() + 1) // 2 if bits <= 4 else weight.numel()


@torch.no_grad()
def weight_errors(
    encoder: nn.Module,
    sites: Sequence[Site],
    units: Sequence[str],
    batches: Sequence[Tensor],
    choices: Sequence[int] = CHOICES,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, dict[int, float]]:
    """By layer and bits: the squared relative error of the embedding with the weights of that layer alone rounded.

    Weights of matrices are compensated (GPTQ), as those of the bundle will be; others are rounded to nearest. Small
    errors of different layers add up nearly as if they were independent, which is why squares are given. The fewest
    bits are measured; with more, the square falls as that of the step does.

    Args:
        encoder: in full precision, left as it is.
        sites: of its Linears and convolutions.
        units: names of its parts that images pass one after the other; those before a layer's own are computed once.
        batches: normalised calibration images, each B x 3 x S x S; a few say enough.
        advance: called after every layer.
    """
    encoder = copy.deepcopy(encoder)
    inputs = observe(encoder, [site.name for site in sites], batches, len(batches), ROWS)
    first, parts = units[0], [encoder.get_submodule(name) for name in units]
    entering = [[entering_unit(encoder, first, batch) for batch in batches]]
    for part in parts:
        entering.append([part(x) for x in entering[-1]])
    true = torch.cat(entering[-1])
    norm = float(true.double().square().sum())
    found: dict[str, dict[int, float]] = {}
    least = min(choices)
    for site in sites:
        layer = encoder.get_submodule(site.name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        weight, values = layer.weight.data, inputs.pop(site.name)
        layer.weight.data = _rounded(weight, values, least)
        own = [number for number, unit in enumerate(units) if site.name.startswith(f"{unit}.")]
        outputs = entering[own[0]] if own else [entering_unit(encoder, first, batch) for batch in batches]
        for part in parts[own[0] if own else 0 :]:
            outputs = [part(x) for x in outputs]
        wrong = torch.cat(outputs) - true
        error = float(wrong.double().square().sum()) / norm
        found[site.name] = {bits: error * (_steps(least) / _steps(bits)) ** 2 for bits in choices}
        layer.weight.data = weight
        advance()
    return found


def _steps(bits: int) -> int:
    low, high = code_limits(bits)
    return high - low


def _rounded(weight: Tensor, values: Tensor, bits: int) -> Tensor:
    scale = weight_scales(weight, bits)
    if weight.dim() == 2:
        moment = (values.T @ values / len(values))[None]
        return (gptq(weight[None], moment, scale[None], bits) * scale[:, None])[0]
    return weight_codes(weight, scale, bits) * scale.reshape(-1, *[1] * (weight.dim() - 1))


def sizes(encoder: nn.Module, sites: Sequence[Site], choices: Sequence[int] = CHOICES) -> Mapping[str, dict[int, int]]:
    """By layer and bits: the bytes of its weights in a bundle."""
    layers = {site.name: encoder.get_submodule(site.name) for site in sites}
    return {
        name: {bits: stored_bytes(layer.weight, bits) for bits in choices}  # type: ignore[arg-type]
        for name, layer in layers.items()
    }
