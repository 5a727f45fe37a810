"""The mask decoder's transformer with 8-bit activations.

Its attention products have values of +-170 in SAM (SAQ-SAM, arXiv 2503.06515); they stay in floating point, as do the
heads, which read single tokens. What is quantized are the projections and MLPs of the two-way transformer, most of
whose work is on image tokens. One grid a tensor serves better here than one a channel (LiteMedSAM, 151 masks made of
full-precision embeddings: agreement 99.3 and 99.1; with 8-bit weights alone 99.6).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace as changed

import torch
from torch import Tensor, nn

from dfqsam.config import QuantConfig
from dfqsam.quant.build import build_layer
from dfqsam.quant.grid import WHOLE
from dfqsam.quant.layers import replace
from dfqsam.quant.observe import observe
from dfqsam.quant.rounding import round_to_half
from dfqsam.sam.prompter import Prompter
from dfqsam.sam.sites import Site

PROMPTS = 8  # of each embedding


class _Asked(nn.Module):
    """A decoder asked at random places of the embedding that it is called with."""

    def __init__(self, prompter: Prompter, seed: int) -> None:
        super().__init__()
        self.decoder, self.prompter = prompter.mask_decoder, prompter
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, embedding: Tensor) -> Tensor:
        return self.prompter.ask(embedding, self.prompter.draw(PROMPTS, self.generator)).logits


def decoder_linears(decoder: nn.Module) -> list[str]:
    """Names of the Linears of its transformer."""
    found = [name for name, module in decoder.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in found if name.startswith("transformer.")]


@torch.no_grad()
def quantize_decoder(
    prompter: Prompter,
    embeddings: Sequence[Tensor],
    rows: int = QuantConfig.rows,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> nn.Module:
    """A copy of the mask decoder of ``prompter`` whose transformer computes with 8-bit weights and activations.

    Args:
        embeddings: of synthetic images, each 1 x 256 x E x E.
        rows: values kept per layer to search its range in.
        seed: of the prompts.
        advance: called after every layer.
    """
    decoder = copy.deepcopy(prompter.mask_decoder)
    names = decoder_linears(decoder)
    asked = _Asked(changed(prompter, mask_decoder=decoder), seed)
    samples = observe(asked, [f"decoder.{name}" for name in names], embeddings, len(embeddings), rows)
    own = QuantConfig(passes=(), reparameterize=None, channel_scales=False)
    for name in names:
        site = Site(name, "linear", "residual")
        layer, _ = build_layer(decoder, site, samples.pop(f"decoder.{name}"), (WHOLE, WHOLE), own)
        replace(decoder, name, layer)
        advance()
    round_to_half(decoder)
    return decoder
