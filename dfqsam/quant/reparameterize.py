"""Scale reparameterization: ranges that differ from channel to channel are made equal, exactly.

Source: RepQ-ViT (Li et al., ICCV 2023), section 3.2, derived again: the LayerNorm output y becomes
y' = (y - center) / r, absorbed by the norm's gain and bias, and undone in the layer that reads it: W' = W diag(r),
b' = b + W center. A grid for the whole tensor y' then resolves every channel as a grid of its own would.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfqsam.quant.ranges import channel_ranges


@torch.no_grad()
def reparameterize(norm: nn.LayerNorm, reader: nn.Linear | nn.Conv2d, values: Tensor) -> Tensor:
    """Changes ``norm`` and ``reader`` in place, keeping what they compute together, and returns the new values.

    Args:
        norm: feeds ``reader`` and nothing else.
        reader: a Linear, or a convolution. A convolution that pads gets no shift: its zeros are zeros of y.
        values: rows x C, a sample of the norm's output.
    """
    low, high = channel_ranges(values)
    shifts = isinstance(reader, nn.Linear) or not any(int(p) for p in reader.padding)
    center = (low + high) / 2 if shifts else torch.zeros_like(low)
    reach = torch.maximum(high - center, center - low).clamp_min(1e-6)
    ratio = reach / reach.mean()

    if shifts:
        matrix = reader.weight if isinstance(reader, nn.Linear) else reader.weight.sum((2, 3))
        shift = matrix @ center
        bias = shift if reader.bias is None else reader.bias + shift
        reader.bias = nn.Parameter(bias, requires_grad=False)
    reader.weight.mul_(ratio.reshape(1, -1, *[1] * (reader.weight.dim() - 2)))
    norm.weight.div_(ratio)
    norm.bias.sub_(center).div_(ratio)
    return (values - center) / ratio
