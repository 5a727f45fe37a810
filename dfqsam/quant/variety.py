"""Calibration images made as different as pictures are.

Formed images are all square, sharp and coloured; pictures also come grey, out of focus, and padded below because they
are wider than high. What a quantized network gets wrong on average depends on that: on LiteMedSAM (W8A8, DFQ-SAM's
images) the mean error of ``layers.2.blocks.0.mlp.fc1`` had a cosine of 0.56 with that of real pictures; with softened
images among them, 0.92.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def varied(batches: Sequence[Tensor]) -> list[Tensor]:
    """Calibration images as different as pictures are: every second one framed, every second pair softened, every
    third one grey.

    Args:
        batches: normalised, each B x 3 x S x S.
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
