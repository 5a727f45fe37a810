"""SAM-Med2D's adapter beside the MLP of a block, its convolutions as sites of quantization; channels-last.

Source: SAM-Med2D (Cheng et al., 2023): channel attention, a spatial bottleneck of a convolution of stride 2 and a
transposed one, and a norm. The transposed convolution (4 x 4, stride 2) is written as one of 2 x 2 that gives the four
pixels of every place at once, as in sub-pixel convolution (Shi et al., CVPR 2016), so that it runs on integer kernels:
of each axis, output 2m is k1 x[m] + k3 x[m - 1] and output 2m + 1 is k2 x[m] + k0 x[m + 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.sam.sites import ChannelsLastConv, Site, site_of


def sub_pixel(kernel: Tensor) -> Tensor:
    """The 4O x I x 2 x 2 kernel for a transposed convolution's I x O x 4 x 4 (stride 2, padding 1).

    Padded by one on all sides it gives (n + 1) x (n + 1) places of n x n; pixel (a, b) of place (m, l) is output
    channel (2a + b) O + o at (m + a, l + b).
    """
    phases = [kernel[:, :, [3 - a, 1 - a]][..., [3 - b, 1 - b]] for a in (0, 1) for b in (0, 1)]
    return torch.cat([phase.transpose(0, 1) for phase in phases]).contiguous()


def shuffled(x: Tensor) -> Tensor:
    """What a :func:`sub_pixel` convolution gives, B x n+1 x n+1 x 4O, as B x 2n x 2n x O."""
    height, width = x.shape[1] - 1, x.shape[2] - 1
    phases = x.chunk(4, -1)
    rows = [
        torch.stack([phases[2 * a + b][:, a : a + height, b : b + width] for b in (0, 1)], 3).flatten(2, 3)
        for a in (0, 1)
    ]
    return torch.stack(rows, 2).flatten(1, 2)


class Adapter(nn.Module):
    """B x H x W x C to the same, H and W even."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = dim // 4
        self.norm = nn.LayerNorm(dim)
        self.channel = nn.Sequential(
            nn.Linear(dim, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, dim, bias=False), nn.Sigmoid()
        )
        self.down = ChannelsLastConv(dim, dim, 3, stride=2, padding=1, bias=False)
        self.up = ChannelsLastConv(dim, 4 * dim, 2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.channel(x.mean((1, 2), keepdim=True))
        return self.norm(x + F.relu(shuffled(self.up(F.relu(self.down(x))))))

    def sites(self, name: str) -> list[Site]:
        """The two convolutions; channel attention, which sees one place a picture, is none.

        The first reads what a norm gives, weighted; a ReLU, which counts as a GELU does, stands before the second.
        """
        return [site_of(f"{name}.down", self.down, "layernorm"), site_of(f"{name}.up", self.up, "gelu")]


def adapter_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's state with the published names of its adapters' convolutions (``spatial.0`` and ``spatial.2``) and
    kernels replaced by those of :class:`Adapter`."""
    found = {}
    for key, value in state.items():
        if key.endswith(".Adapter.spatial.0.weight"):
            found[key.replace("spatial.0", "down")] = value
        elif key.endswith(".Adapter.spatial.2.weight") and value.dim() == 4 and value.shape[2:] == (4, 4):
            found[key.replace("spatial.2", "up")] = sub_pixel(value)
        else:
            found[key] = value
    return found
