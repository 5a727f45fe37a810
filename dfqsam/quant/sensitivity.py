"""Which sites an encoder can least do without: the embedding's error with one site quantized at a time.

The grids are those of plain quantization (one per tensor for activations, one per output channel for weights, without
reparameterization), everywhere alike, so that the figures show where the trouble is before any cure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfqsam.errors import InputError
from dfqsam.quant.grid import Affine, fake_quantize, weight_codes, weight_scales
from dfqsam.quant.observe import Sample
from dfqsam.quant.ranges import search_range
from dfqsam.sam.sites import Site

SAMPLED = 1 << 19  # values of each input that its range is searched in
# Okabe and Ito's colours, which people with colour-blindness tell apart.
COLOURS = {"linear": "#0072B2", "conv": "#56B4E9", "depthwise": "#E69F00", "product": "#009E73"}
KINDS = {"linear": "linear", "conv": "convolution", "depthwise": "depthwise convolution", "product": "product"}


@dataclass(frozen=True)
class SiteError:
    """What quantizing one site alone does.

    Attributes:
        name, kind, source: of the site, see :class:`dfqsam.sam.sites.Site`.
        error: norm of the embedding's difference over its norm; 0 where nothing changes.
        parameters: weights and biases of the site; 0 for a product.
    """

    name: str
    kind: str
    source: str
    error: float
    parameters: int


@torch.no_grad()
def sensitivity(
    encoder: nn.Module, sites: list[Site], images: Tensor, bits: int, advance: Callable[[], object] = lambda: None
) -> list[SiteError]:
    """Quantizes each site alone, weights and activations at ``bits``, and compares embeddings; ``encoder`` is left as
    it was. One full-precision forward finds all grids; then one forward a site.

    Args:
        sites: of this encoder, in the order of execution, which is that of the result.
        images: normalised, B x 3 x S x S; a few synthetic ones say enough.
        bits: 2 to 8.
        advance: called after every site.

    Raises:
        InputError: for other numbers of bits.
    """
    if not 2 <= bits <= 8:
        raise InputError(f"Sites can be quantized to 2 to 8 bits, not to {bits}.")
    inputs: dict[str, list[Sample]] = {}

    def watch(name: str, seed: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, values: tuple[Tensor, ...]) -> None:
            samples = inputs.setdefault(name, [Sample(SAMPLED, seed + i) for i in range(len(values))])
            for sample, value in zip(samples, values, strict=True):
                sample.add(value)

        return hook

    hooks = [
        encoder.get_submodule(site.name).register_forward_pre_hook(watch(site.name, 10 * i))
        for i, site in enumerate(sites)
    ]
    try:
        true = encoder(images)
    finally:
        for handle in hooks:
            handle.remove()
    norm = true.double().norm().clamp_min(1e-30)
    found = []
    for site in sites:
        module = encoder.get_submodule(site.name)
        grids = [search_range(sample.values(), bits) for sample in inputs.pop(site.name)]
        with _quantized(module, grids, bits):
            error = float((encoder(images) - true).double().norm() / norm)
        count = sum(parameter.numel() for parameter in module.parameters())
        found.append(SiteError(site.name, site.kind, site.source, error, count))
        advance()
    return found


@contextmanager
def _quantized(module: nn.Module, grids: list[Affine], bits: int) -> Iterator[None]:
    """Rounds what enters ``module``, and its weight, for as long as the block runs."""

    def hook(_module: nn.Module, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(fake_quantize(value, grid) for value, grid in zip(values, grids, strict=True))

    handle = module.register_forward_pre_hook(hook)
    layer = module if isinstance(module, nn.Linear | nn.Conv2d) else None
    weight = None if layer is None else layer.weight.data
    try:
        if layer is not None and weight is not None:
            scale = weight_scales(weight, bits)
            layer.weight.data = weight_codes(weight, scale, bits) * scale.reshape(-1, *[1] * (weight.dim() - 1))
        yield
    finally:
        handle.remove()
        if layer is not None and weight is not None:
            layer.weight.data = weight


def markdown(found: list[SiteError]) -> str:
    """A table in the order of execution; ``rank`` 1 is the most sensitive site."""
    ranks = {site.name: i + 1 for i, site in enumerate(sorted(found, key=lambda site: -site.error))}
    lines = [
        "| rank | site | kind | fed by | parameters | embedding error |",
        "| ---: | --- | --- | --- | ---: | ---: |",
    ]
    for site in found:
        facts = f"{KINDS[site.kind]} | {site.source} | {site.parameters} | {site.error:.4f}"
        lines.append(f"| {ranks[site.name]} | {site.name} | {facts} |")
    return "\n".join(lines) + "\n"


def chart(found: list[SiteError], path: Path, title: str = "Embedding error with one site quantized alone") -> None:
    """Draws a bar a site from the input (top) to the output (bottom), as PNG or what the ending of ``path`` says."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(8.5, 1.6 + 0.19 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    axes.barh(range(len(found)), [site.error for site in found], color=[COLOURS[site.kind] for site in found])
    axes.set_yticks(range(len(found)), [site.name for site in found], fontsize=8)
    axes.set_ylim(len(found) - 0.4, -0.6)
    for i, site in enumerate(found):
        axes.annotate(f"{site.error:.3f}", (site.error, i), (3, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_xlim(0, 1.1 * max([site.error for site in found], default=1) or 1)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("norm of the difference / norm of the embedding")
    axes.set_title(title, fontsize=11, loc="left")
    present = [kind for kind in COLOURS if any(site.kind == kind for site in found)]
    patches = [Patch(color=COLOURS[kind], label=KINDS[kind]) for kind in present]
    figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
