"""Random crops, shifts and flips that move images and their pseudo masks alike.

What leaves the image is filled by reflection: wrapping round, as rolling does, would tear masks apart. Image and mask
move at one resolution, so that they stay in register.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Jitter:
    """One move of a square image of side S.

    Attributes:
        dy, dx: shift in pixels of the image, positive down and to the right.
        scale: share of S that is the side of the crop, in (0, 1]; the crop grows back to S.
        flip: mirror left and right, last of all.
    """

    dy: int = 0
    dx: int = 0
    scale: float = 1.0
    flip: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise ValueError(f"A crop's scale lies in (0, 1], not at {self.scale}.")


def draw(generator: torch.Generator, size: int, reach: int, min_scale: float) -> Jitter:
    """A random jitter for images of side ``size``.

    The crop's side is uniform in min_scale..1 of the image; it lies anywhere in the image or up to ``reach`` pixels
    beyond its border.
    """
    scale = min_scale + (1 - min_scale) * float(torch.rand((), generator=generator))
    free = reach + (size - _side(size, scale)) // 2
    dy, dx = (int(v) for v in torch.randint(-free, free + 1, (2,), generator=generator))
    return Jitter(dy, dx, scale, bool(torch.rand((), generator=generator) < 0.5))


def apply(images: Tensor, masks: Tensor, jitter: Jitter) -> tuple[Tensor, Tensor]:
    """The moved B x C x S x S float images (bilinear, differentiable) and B x M x S x S bool masks (nearest)."""
    size = images.shape[-1]
    if images.shape[-2:] != masks.shape[-2:] or images.shape[-2] != size:
        raise ValueError(f"Images {tuple(images.shape)} and masks {tuple(masks.shape)} need one square resolution.")
    side = _side(size, jitter.scale)
    window = torch.arange(side, device=images.device) + (size - side) // 2
    rows, columns = _reflect(window - jitter.dy, size), _reflect(window - jitter.dx, size)
    if jitter.flip:
        columns = columns.flip(0)
    images = images.index_select(2, rows).index_select(3, columns)
    masks = masks.index_select(2, rows).index_select(3, columns)
    if side != size:
        images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
        # Plain "nearest" samples half a pixel off the bilinear grid.
        masks = F.interpolate(masks.float(), (size, size), mode="nearest-exact") > 0.5
    return images, masks


def _side(size: int, scale: float) -> int:
    return max(1, round(size * scale))


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices of any size folded into 0..size-1, the border pixels once a fold."""
    if size == 1:
        return torch.zeros_like(index)
    folded = index.remainder(2 * (size - 1))
    return torch.minimum(folded, 2 * (size - 1) - folded)
