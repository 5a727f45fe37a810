"""Quantized attention products; simulation only, no integer kernel computes them."""

from __future__ import annotations

from torch import Tensor, nn

from dfqsam.quant.evening import Evening
from dfqsam.quant.grid import Affine, fake_quantize
from dfqsam.quant.logarithmic import Logarithmic, fake_quantize_log


class QuantizedProduct(nn.Module):
    """a @ b with a (… x M x K) and b (… x K x N) each on a grid of its own; softmax outputs on a logarithmic one.

    Attributes:
        left: of a.
        right: of b.
        evening: what is done to both before they are rounded, and made up for behind; None for nothing.
    """

    def __init__(self, left: Affine | Logarithmic, right: Affine, evening: Evening | None = None) -> None:
        super().__init__()
        self.left, self.right, self.evening = left, right, evening

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        grid = self.left
        a, b = self.enter(a, b)
        first = fake_quantize_log(a, grid) if isinstance(grid, Logarithmic) else fake_quantize(a, grid)
        return self.leave(first @ fake_quantize(b, self.right))

    def enter(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Both factors as they are rounded."""
        return (a, b) if self.evening is None else self.evening.enter(a, b)

    def leave(self, product: Tensor) -> Tensor:
        """What the rounded factors give, as the product that was asked for."""
        return product if self.evening is None else self.evening.leave(product)

    def extra_repr(self) -> str:
        return f"{self.left}, {self.right}"
