"""Position tables of SAM's ViT: the decomposed relative positions, and resampling for other input sizes.

Source: Li et al., MViTv2 (2022), section 4.1, as SAM uses it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def by_offset(table: Tensor, size: int) -> Tensor:
    """A table of offsets (2 size - 1 x c) as size x size x c: the entry of query position i and key position j."""
    steps = torch.arange(size, device=table.device)
    offsets = (steps[:, None] - steps[None, :] + size - 1).flatten()
    return table.index_select(0, offsets).reshape(size, size, -1)


def relative_terms(query: Tensor, table_h: Tensor, table_w: Tensor, first_row: int = 0) -> tuple[Tensor, Tensor]:
    """What relative positions add to the attention scores of keys in each row, and in each column.

    Args:
        query: B x h x w x c, unscaled; h rows of the H x W grid, from ``first_row`` on, and its first w columns.
        table_h, table_w: H x H x c and W x W x c (:func:`by_offset`).

    Returns:
        B x h x w x H and B x h x w x W.
    """
    vertical = query @ table_h[first_row : first_row + query.shape[1]].transpose(1, 2)
    horizontal = (query.transpose(1, 2) @ table_w[: query.shape[2]].transpose(1, 2)).transpose(1, 2)
    return vertical, horizontal


def relative_bias(query: Tensor, table_h: Tensor, table_w: Tensor, first_row: int = 0) -> Tensor:
    """The sum of both terms of :func:`relative_terms` for every key, B x (h w) x H x W."""
    vertical, horizontal = relative_terms(query, table_h, table_w, first_row)
    bias = vertical[..., :, None] + horizontal[..., None, :]
    return bias.reshape(query.shape[0], -1, table_h.shape[1], table_w.shape[1])


def resample_table(table: Tensor, length: int) -> Tensor:
    """A table of offsets (L x c) stretched linearly to ``length`` x c."""
    if len(table) == length:
        return table
    return F.interpolate(table.T[None].float(), length, mode="linear", align_corners=False)[0].T.contiguous()


def resample_grid(grid: Tensor, size: int) -> Tensor:
    """Absolute position embeddings 1 x h x w x C resampled (bilinear, as SAM-Med2D does) to 1 x size x size x C."""
    if grid.shape[1:3] == (size, size):
        return grid
    planes = grid.permute(0, 3, 1, 2).float()
    return F.interpolate(planes, (size, size), mode="bilinear", align_corners=False).permute(0, 2, 3, 1).contiguous()
