"""Weights chosen for the inputs that they meet, layer after layer, each knowing what those before it got wrong.

Three steps a layer, of which held-out images choose: the weights are refitted to the inputs as they now are (ERQ's
ridge, :mod:`dfqsam.quant.ridge`), then rounded so that later inputs make up for the rounding of earlier ones
(:mod:`dfqsam.quant.gptq`), then the mean error goes into the bias. A layer for which none of this helps stays as it is.

Weights of eight bits are left alone: they have so little to make up for that the refit follows the calibration images
instead (LiteMedSAM, w8a8, 151 masks: agreement 96.6 and embedding error 0.124 with them refitted, 97.2 and 0.105
without).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dfqsam.errors import InputError
from dfqsam.quant.encoder import quantized_layers
from dfqsam.quant.grid import WHOLE
from dfqsam.quant.layers import CodedLayer
from dfqsam.quant.patches import rounded_inputs
from dfqsam.quant.ridge import ridge
from dfqsam.sam.sites import Site

PLACES = 1024  # of each image that a layer is fitted and judged on
PENALTIES = (1.0, 0.1, 0.01, 0.001)
DAMPINGS = (0.1, 0.01)


@dataclass(frozen=True)
class Compensation:
    """What became of one layer.

    Attributes:
        before, after: mean squared error of its outputs on held-out images, as it was and as it is.
        penalty: of the ridge that was chosen; None for none.
        damping: of the rounding that was chosen; None where the weights stayed as they were.
    """

    before: float
    after: float
    penalty: float | None
    damping: float | None


@dataclass
class _Rows:
    """Rows of one kind (to fit or held out): inputs G x P x K and wanted outputs G x P x N."""

    inputs: Tensor
    wanted: Tensor

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Mean squared error of the outputs of ``weight`` (G x N x K) and ``bias`` (G x 1 x N)."""
        return float((self.inputs @ weight.mT + bias - self.wanted).square().mean())

    def mean_missing(self, weight: Tensor, bias: Tensor) -> Tensor:
        """G x 1 x N: what the outputs lack on average."""
        return (self.wanted - self.inputs @ weight.mT - bias).mean(1, keepdim=True)


@dataclass
class _Wanted:
    tokens: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@torch.no_grad()
def compensate(
    reference: nn.Module,
    encoder: nn.Module,
    sites: list[Site],
    batches: Sequence[Tensor],
    fit: int,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Compensation]:
    """Chooses the weights of the layers of ``encoder`` that have fewer than eight bits anew, in place.

    Args:
        reference: the encoder in full precision, whose outputs are wanted.
        encoder: quantized, as :func:`dfqsam.quant.encoder.quantize_encoder` leaves it.
        sites: of this encoder.
        batches: normalised images, each 1 x 3 x S x S; the first ``fit`` are fitted on, the others choose.
        advance: called after every layer.

    Raises:
        InputError: when there are no images to fit on or none to choose by.
    """
    if not 1 <= fit < len(batches):
        raise InputError(f"Compensation got {len(batches)} images, {fit} of them to fit; give at least one of each.")
    layers = {name: layer for name, layer in quantized_layers(encoder).items() if layer.weight_bits < WHOLE}
    if not layers:
        return {}
    streams = {site.name: site.stream for site in sites if site.stream is not None and site.name in layers}
    wanted = _outputs(reference, list(layers), streams, batches)
    report: dict[str, Compensation] = {}
    passing: dict[str, Tensor] = {}

    def follow(name: str, layer: CodedLayer) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            tokens = wanted.pop(name).tokens
            stream = passing.pop(streams[name]) if name in streams else None
            rows, outputs = [], []
            for i, x in enumerate(inputs[0]):
                places, true = tokens[i]
                rows.append(rounded_inputs(layer, x[None], places))
                true = true if stream is None else true - stream[i].flatten(0, -2)[places]
                outputs.append(true.unflatten(1, (len(layer.origin), -1)).transpose(0, 1))
            fitted = _Rows(torch.cat(rows[:fit], 1), torch.cat(outputs[:fit], 1))
            held = _Rows(torch.cat(rows[fit:], 1), torch.cat(outputs[fit:], 1))
            report[name] = _choose(layer, fitted, held)
            advance()

        return layer.register_forward_pre_hook(hook)

    def remember(stream: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            passing[stream] = inputs[0]

        return encoder.get_submodule(stream).register_forward_pre_hook(hook)

    hooks = [remember(stream) for stream in streams.values()]
    hooks += [follow(name, layer) for name, layer in layers.items()]
    try:
        encoder(torch.cat(list(batches)))
    finally:
        for handle in hooks:
            handle.remove()
    return report


def _choose(layer: CodedLayer, fitted: _Rows, held: _Rows) -> Compensation:
    """Sets the weights and bias of ``layer`` to what is best on ``held``."""
    origin, groups = layer.origin, len(layer.origin)
    outputs = origin.shape[1]
    bias = torch.zeros(groups, 1, outputs) if layer.bias is None else layer.bias.reshape(groups, 1, outputs)
    moment = fitted.inputs.mT @ fitted.inputs / fitted.inputs.shape[1]

    # The ridge, judged before any rounding; the bias goes along, as an input that is always one.
    best, penalty = origin, None
    least = held.error(origin, bias)
    centred = fitted.inputs - fitted.inputs.mean(1, keepdim=True)
    spread = centred.mT @ centred / centred.shape[1]
    missing = fitted.wanted - fitted.inputs @ origin.mT - bias
    cross = (missing - missing.mean(1, keepdim=True)).mT @ centred / centred.shape[1]
    for candidate in PENALTIES:
        weight = origin + ridge(cross, spread, candidate)
        error = held.error(weight, bias + fitted.mean_missing(weight, bias))
        if error < least:
            best, penalty, least = weight, candidate, error

    current = layer.weights()
    before = after = held.error(current, bias)
    chosen: tuple[Tensor, Tensor, Tensor, float] | None = None
    for damping in DAMPINGS:
        codes, scale, weight = layer.fitted(best, moment, damping)
        for shift in (fitted.mean_missing(weight, bias), torch.zeros_like(bias)):
            error = held.error(weight, bias + shift)
            if error < after:
                chosen, after = (codes, scale, shift, damping), error
    if chosen is None:
        return Compensation(before, after, None, None)
    codes, scale, shift, damping = chosen
    layer.set_weights(codes, scale)
    if bool(shift.any()):
        layer.add_bias(shift.flatten())
    return Compensation(before, after, penalty, damping)


def _outputs(
    encoder: nn.Module, names: list[str], streams: dict[str, str], batches: Sequence[Tensor]
) -> dict[str, _Wanted]:
    """For every module and image, places of its output drawn at random (P), and what is there (P x N); where it writes
    to a residual stream, what is in the stream afterwards."""
    found = {name: _Wanted() for name in names}
    passing: dict[str, Tensor] = {}
    image = 0

    def follow(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            flat = output.flatten(0, -2)
            places = torch.randperm(len(flat), generator=torch.Generator().manual_seed(image))[:PLACES]
            value = flat[places]
            if name in streams:
                value = value + passing.pop(streams[name]).flatten(0, -2)[places]
            found[name].tokens.append((places, value))

        return encoder.get_submodule(name).register_forward_hook(hook)

    def remember(stream: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            passing[stream] = inputs[0]

        return encoder.get_submodule(stream).register_forward_pre_hook(hook)

    hooks = [remember(stream) for stream in streams.values()] + [follow(name) for name in names]
    try:
        for image, batch in enumerate(batches):  # noqa: B007  (the hooks read it)
            encoder(batch)
    finally:
        for handle in hooks:
            handle.remove()
    return found
