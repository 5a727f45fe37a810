"""Attention over a whole grid by itself, in both forms that a graph can have it in; what measurements compare."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim

from dfqsam.export.products import scale_at_run_time
from dfqsam.export.trace import to_onnx
from dfqsam.sam.vit import Attention, ViTConfig


class _Whole(nn.Module):
    """From queries, keys and values; ``unread`` only has a size that is not known before the graph runs."""

    def __init__(self, side: int, heads: int, size: int, on_integers: bool) -> None:
        super().__init__()
        self.attention = Attention(heads * size, heads, side, 0, ViTConfig.rows_per_chunk)
        draw = torch.Generator().manual_seed(0)
        for table in (self.attention.rel_pos_h, self.attention.rel_pos_w):
            table.copy_(torch.randn(table.shape, generator=draw) / size**0.5)
        for name in ("qkv", "proj"):
            self.attention.add_module(name, nn.Identity())
        self.attention.fused, self.attention.on_integers = True, on_integers

    def forward(self, qkv: Tensor, unread: Tensor) -> Tensor:
        return self.attention(qkv)


@torch.no_grad()
def whole_graph(side: int, heads: int, size: int, on_integers: bool) -> bytes:
    """An ONNX model from ``qkv`` (1 x side x side x 3 heads size) and ``unread`` (any numbers) to ``out`` (1 x side x
    side x heads size), with random relative positions."""
    example = (torch.zeros(1, side, side, 3 * heads * size), torch.zeros(2))
    dynamic = {"qkv": None, "unread": {0: Dim("count", min=1, max=8)}}
    model = to_onnx(_Whole(side, heads, size, on_integers), example, ["qkv", "unread"], ["out"], dynamic)
    scale_at_run_time(model, "unread")
    return model.SerializeToString()
