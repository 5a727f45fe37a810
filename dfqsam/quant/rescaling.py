"""What enters a layer, channel by channel moved and divided; the layer makes up for it exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rescaling:
    """y' = (y - center) / ratio, both C; a matrix that reads y' has W' = W diag(ratio) and b' = b + W center."""

    center: Tensor
    ratio: Tensor

    def apply(self, values: Tensor) -> Tensor:
        """… x C to … x C."""
        return (values - self.center) / self.ratio

    def halved(self) -> Rescaling:
        """With values that half precision holds, which take half the room in a file; exact all the same, for whoever
        reads y' makes up for these."""
        ends = torch.finfo(torch.half)
        center, ratio = self.center.clamp(ends.min, ends.max), self.ratio.clamp(ends.tiny, ends.max)
        return Rescaling(center.half().to(center.dtype), ratio.half().to(ratio.dtype))

    def undo(self, values: Tensor) -> Tensor:
        """The inverse of :meth:`apply`."""
        return values * self.ratio + self.center
