"""Linears whose weights are stored in four bits and multiplied with activations in floating point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfqsam.quant.blocks import BITS, ZERO, block_scales, gptq_in_blocks, pack, rounded_codes, spread, unpack
from dfqsam.quant.layers import CodedLayer
from dfqsam.quant.ops import block_linear


class BlockLinear(CodedLayer):
    """… x K to … x N in floating point, with weights of four bits and a scale for every block of inputs.

    Attributes:
        codes: N x ceil(K / block) x block / 2 uint8, as :func:`dfqsam.quant.blocks.pack` lays them out.
        scale: N x ceil(K / block), values that half precision holds.
        block: inputs that share a scale.
        inputs: K.
    """

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, inputs: int) -> None:
        super().__init__(codes, scale, bias, BITS)
        self.block, self.inputs = 2 * codes.shape[-1], inputs

    @classmethod
    @torch.no_grad()
    def of(cls, linear: nn.Linear, block: int) -> BlockLinear:
        """From a Linear (or Pointwise), rounded to nearest with scales that are searched for the weights alone."""
        weight = linear.weight.detach()
        scale = block_scales(weight, block)
        layer = cls(pack(rounded_codes(weight, scale, block), block), scale, linear.bias, weight.shape[1])
        layer.origin = weight[None].clone()
        return layer

    def weights(self) -> Tensor:
        return (unpack(self.codes, self.inputs) * spread(self.scale, self.block, self.inputs))[None]

    def fitted(self, weight: Tensor, moment: Tensor, damping: float) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`CodedLayer.fitted`; scales are 1 x N x ceil(K / block)."""
        codes, scale = gptq_in_blocks(weight, moment, self.block, damping)
        return codes, scale, codes * spread(scale, self.block, self.inputs)

    def set_weights(self, codes: Tensor, scale: Tensor) -> None:
        self.codes, self.scale = pack(codes[0], self.block), scale[0].float()

    def on_grid(self) -> bool:
        """Whether half precision holds every scale, and what fills up a short block is 0."""
        filling = unpack(self.codes, self.codes.shape[1] * self.block)[:, self.inputs :]
        held = torch.equal(self.scale.half().float(), self.scale)
        return self.codes.dtype == torch.uint8 and held and not bool(filling.any())

    def forward(self, x: Tensor) -> Tensor:
        return block_linear(x, self.codes, self.scale, self.bias, self.inputs)

    def extra_repr(self) -> str:
        return f"{len(self.codes)} x {self.inputs}, w{BITS} in blocks of {self.block}, zero {ZERO}"
