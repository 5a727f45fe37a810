"""Calibration images made as different as pictures are.

Formed images are all square, sharp and coloured; pictures also come grey, out of focus, and padded below because they
are wider than high. What a quantized network gets wrong on average depends on that: on LiteMedSAM (W8A8, DFQ-SAM's
images) the mean error of ``layers.2.blocks.0.mlp.fc1`` had a cosine of 0.56 with that of real pictures; with softened
images among them, 0.92.

How far single channels reach is another matter: a channel that is silent on all calibration images speaks on some real
picture, and a grid of its own that ends too early cuts it off. Hence :func:`strained`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BLENDED, NOISY = 0.4, 0.3  # shares of the images
NOISE = 0.06  # at most, a standard deviation


def varied(batches: Sequence[Tensor]) -> list[Tensor]:
    """Calibration images as different as pictures are: every second one framed, every second pair softened, every
    third one grey.

    Args:
        batches: normalised, each B x 3 x S x S.
    """
    grey = [batch.mean(1, keepdim=True).expand_as(batch) if i % 3 == 0 else batch for i, batch in enumerate(batches)]
    soft = [softened(batch) if i // 2 % 2 else batch for i, batch in enumerate(grey)]
    return [framed(batch) if i % 2 else batch for i, batch in enumerate(soft)]


def strained(pictures: Sequence[Tensor], times: int = 2, seed: int = 0) -> list[Tensor]:
    """Calibration pictures pushed beyond what they are, to see how far values can reach: parts of them enlarged,
    mirrored, turned, of more or less contrast and brightness, grey, softened, wide or narrow.

    On LiteMedSAM, thirteen real pictures reached up to eight times beyond what 32 formed ones had shown of a channel.

    Args:
        pictures: each 3 x h x w in [0, 1].
        times: how many are made of each.
        seed: of every draw.

    Returns:
        Pictures in [0, 1], no side longer than the longest of the one that each was made of.
    """
    generator = torch.Generator().manual_seed(seed)
    return [_strain(picture, generator) for _ in range(times) for picture in pictures]


class Endless:
    """New images of a few calibration pictures, as many as are asked for: strained, some of them after another one was
    blended in, some with noise."""

    def __init__(self, pictures: Sequence[Tensor], normalise: Callable[[Tensor], Tensor]) -> None:
        """
        Args:
            pictures: each 3 x h x w in [0, 1]; images are made where they are.
            normalise: from 1 x 3 x h x w in [0, 1] to 1 x 3 x S x S.
        """
        self.pictures, self.normalise = pictures, normalise

    def __call__(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` x 3 x S x S, normalised."""
        return torch.cat([self.normalise(self._one(generator)[None]) for _ in range(count)])

    def _one(self, generator: torch.Generator) -> Tensor:
        first, second = (
            self.pictures[i] for i in torch.randint(len(self.pictures), (2,), generator=generator).tolist()
        )
        x = _blended(first, second, generator) if float(torch.rand((), generator=generator)) < BLENDED else first
        x = _strain(x, generator)
        strength = NOISE * float(torch.rand((), generator=generator))
        if float(torch.rand((), generator=generator)) < NOISY:
            x = (x + strength * torch.randn(x.shape, generator=generator).to(x.device)).clamp(0, 1)
        return x


def _blended(x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Parts of picture ``x`` and parts of ``y``, with soft borders; 3 x h x w, as ``x``."""
    share = torch.rand(1, 1, 5, 5, generator=generator).to(x.device)
    share = F.interpolate(share, size=x.shape[1:], mode="bicubic", align_corners=False)[0]
    y = F.interpolate(y[None], size=x.shape[1:], mode="bilinear", align_corners=False)[0]
    return y + (x - y) * ((share - 0.5) * 4 + 0.5).clamp(0, 1)


def _strain(x: Tensor, generator: torch.Generator) -> Tensor:
    def draw() -> float:
        return float(torch.rand((), generator=generator))

    height, width = x.shape[1:]
    if draw() < 0.5:
        share = 0.5 + 0.5 * draw()
        h, w = max(1, int(share * height)), max(1, int(share * width))
        top, left = int((height - h) * draw()), int((width - w) * draw())
        part = x[None, :, top : top + h, left : left + w]
        x = F.interpolate(part, size=(height, width), mode="bicubic", align_corners=False)[0].clamp(0, 1)
    for axis in (-1, -2):
        x = x.flip(axis) if draw() < 0.5 else x
    x = x.transpose(-1, -2) if draw() < 0.5 else x
    x = x.mean(0, keepdim=True).expand(3, -1, -1) if draw() < 0.4 else x
    x = softened(x[None])[0] if draw() < 0.5 and min(x.shape[1:]) > 2 else x
    if draw() < 0.5:
        contrast, brightness, power = 0.5 + draw(), 0.3 * (draw() - 0.5), 0.6 + 1.2 * draw()
        x = ((x - 0.5) * contrast + 0.5 + brightness).clamp(0, 1) ** power
    side, share = draw(), 0.5 + 0.5 * draw()
    if side < 0.35:
        x = x[:, : max(1, int(share * x.shape[1]))]
    elif side < 0.5:
        x = x[:, :, : max(1, int(share * x.shape[2]))]
    return x


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
