"""What is mended in an encoder once all of it is quantized: ranges of the stem, weights, biases; on a few images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.config import QuantConfig
from dfqsam.quant.compensate import compensate_on_few
from dfqsam.quant.correction import correct_on_few
from dfqsam.quant.refine import refine_ranges, stem_sites
from dfqsam.sam.sites import Site

REFINED = 4  # images that the stem's ranges are judged on


@torch.no_grad()
def polish(
    reference: nn.Module,
    encoder: nn.Module,
    sites: list[Site],
    batches: Sequence[Tensor],
    config: QuantConfig,
    any_resolution: bool,
) -> int:
    """Mends the quantized ``encoder`` in place; returns how many layers got another bias.

    Args:
        reference: the encoder in full precision.
        batches: normalised calibration images, each 1 x 3 x S x S, varied (:func:`dfqsam.quant.variety.varied`).
        any_resolution: whether the encoder takes images of half the side, which are enough to judge ranges by.
    """
    if config.refine:
        few = torch.cat(list(batches[:REFINED]))
        if any_resolution:
            few = F.avg_pool2d(few, 2)
        refine_ranges(reference, encoder, stem_sites(sites), few)
    if config.compensate:
        compensate_on_few(reference, encoder, sites, batches)
    return correct_on_few(reference, encoder, batches) if config.bias_correction else 0
