"""Bias correction: the mean error that quantization leaves in every channel is folded into the bias.

Source: DFQ-ViT (arXiv 2507.14481), whose activation correction adds mean(full precision - quantized) to the activations
of each layer; in the form of one value a channel it is a change of the bias and costs nothing when the model runs.
Layers are corrected in the order of execution, so that each sees what the corrected ones before it give. As a handful
of images estimates a mean with an error of its own, a correction must prove itself on images that it was not made from.

What was distilled from its end is not corrected: its layers together give what they gave before, not each by itself. On
LiteMedSAM (W4A4, half of the validation split) correction took the embedding's error from 0.588 back to 0.635.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfqsam.errors import InputError
from dfqsam.quant.encoder import quantized_layers
from dfqsam.quant.layers import CodedLayer

POSITIONS = 512  # tokens of each held-out image that are compared


@dataclass(frozen=True)
class Correction:
    """What became of one layer.

    Attributes:
        kept: whether its bias was changed.
        before, after: mean squared error of its outputs at the held-out positions, without and with the correction;
            ``after`` is what it would have been where ``kept`` is False.
    """

    kept: bool
    before: float
    after: float


@dataclass
class _Reference:
    """Outputs in full precision: the channel sums (N) of each image to fit, and tokens (P x N) of each held-out one."""

    means: list[Tensor]
    tokens: list[Tensor]

    @property
    def mean(self) -> Tensor:
        return torch.stack(self.means).mean(0)


def channel_means(output: Tensor) -> Tensor:
    """B x … x N to N, in float64; image by image, so that no second copy of a whole batch is made."""
    return torch.stack([image.flatten(0, -2).mean(0, dtype=torch.float64) for image in output]).mean(0)


def _positions(tokens: int, seed: int) -> Tensor:
    """Up to ``POSITIONS`` of ``tokens`` places, the same ones for the same seed."""
    return torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))[:POSITIONS]


def _tokens(output: Tensor, seed: int) -> Tensor:
    """1 x … x N to P x N at random places."""
    flat = output.flatten(0, -2)
    return flat[_positions(len(flat), seed)].double()


@torch.no_grad()
def correct_biases(
    reference: nn.Module,
    encoder: nn.Module,
    images: Tensor,
    fit: int,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Correction]:
    """Corrects the biases of the quantized layers of ``encoder``, in place, and says by name what became of each.

    Args:
        reference: the encoder in full precision. What its layers give must mean the same (reparameterization of their
            inputs changes no output).
        encoder: quantized; its layers take and give B x … x N, a batch of images first.
        images: N x 3 x S x S, normalised. The first ``fit`` ones give the corrections, the others guard them.
        fit: at least 1, less than N.
        advance: called after every layer.

    Raises:
        InputError: for another ``fit``.
    """
    if not 1 <= fit < len(images):
        raise InputError(
            f"Bias correction got {len(images)} images, {fit} of them to fit; give at least one of each kind."
        )
    layers = quantized_layers(encoder)
    wanted = _reference(reference, list(layers), images, fit)
    report: dict[str, Correction] = {}

    def follow(name: str, layer: CodedLayer) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            true = wanted.pop(name)
            shift = true.mean - channel_means(output[:fit])
            ours = torch.cat([_tokens(output[i : i + 1], i) for i in range(fit, len(output))])
            error = ours - torch.cat(true.tokens)
            before, after = float(error.square().mean()), float((error + shift).square().mean())
            kept = after < before
            report[name] = Correction(kept, before, after)
            advance()
            if not kept:
                return None
            layer.add_bias(shift)
            return output.add_(shift.to(output.dtype))

        return layer.register_forward_hook(hook)

    hooks = [follow(name, layer) for name, layer in layers.items()]
    try:
        encoder(images)
    finally:
        for handle in hooks:
            handle.remove()
    return report


def _reference(encoder: nn.Module, names: list[str], images: Tensor, fit: int) -> dict[str, _Reference]:
    """Channel means of the first ``fit`` images and tokens of the others behind the modules ``names``."""
    found = {name: _Reference([], []) for name in names}
    place = 0

    def follow(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if place < fit:
                found[name].means.append(channel_means(output))
            else:
                found[name].tokens.append(_tokens(output, place))

        return encoder.get_submodule(name).register_forward_hook(hook)

    hooks = [follow(name) for name in names]
    try:
        for place, image in enumerate(images):  # noqa: B007  (the hooks read it)
            encoder(image[None])
    finally:
        for handle in hooks:
            handle.remove()
    return found
