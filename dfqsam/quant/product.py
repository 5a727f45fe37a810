"""Quantized attention products; simulation only, no integer kernel computes them."""

from __future__ import annotations

from torch import Tensor, nn

from dfqsam.quant.grid import Affine, fake_quantize
from dfqsam.quant.logarithmic import LogSqrt2, fake_quantize_log


class QuantizedProduct(nn.Module):
    """a @ b with a (… x M x K) and b (… x K x N) each on a grid of its own; softmax outputs on a logarithmic one.

    Attributes:
        left: of a.
        right: of b.
    """

    def __init__(self, left: Affine | LogSqrt2, right: Affine) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        grid = self.left
        first = fake_quantize_log(a, grid) if isinstance(grid, LogSqrt2) else fake_quantize(a, grid)
        return first @ fake_quantize(b, self.right)

    def extra_repr(self) -> str:
        return f"{self.left}, {self.right}"
