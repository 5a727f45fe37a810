"""Block-Hadamard rotation: a channel that sticks out is spread over its block, exactly. Pure maths on tensors.

Source: QuaRot (Ashkboos et al., arXiv 2404.00456), in blocks. A Hadamard matrix H of Sylvester's, divided by the root
of its side, is its own inverse, so that (W H)(H x) = W x. Offline, inside a residual stream, this is exact only where
nothing but matrices reads the stream; TinyViT has depthwise convolutions there, and so the rotation is computed in
front of the layer.
"""

from __future__ import annotations

import torch
from torch import Tensor


def block_side(channels: int) -> int:
    """The largest power of two that divides ``channels``.

    >>> [block_side(channels) for channels in (768, 320, 5)]
    [256, 64, 1]
    """
    return channels & -channels


def hadamard(side: int) -> Tensor:
    """The symmetric orthonormal Hadamard matrix of a power of two; side x side.

    >>> hadamard(2)
    tensor([[ 0.7071,  0.7071],
            [ 0.7071, -0.7071]])
    """
    matrix = torch.ones(1, 1)
    while len(matrix) < side:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / side**0.5


def rotate(x: Tensor) -> Tensor:
    """… x C with each block of :func:`block_side` channels rotated; its own inverse."""
    side = block_side(x.shape[-1])
    return (x.unflatten(-1, (-1, side)) @ hadamard(side)).flatten(-2)
