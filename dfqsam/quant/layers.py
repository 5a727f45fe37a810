"""Layers that replace Linears and convolutions of an encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.errors import ParityError
from dfqsam.quant.gptq import gptq_with_scales
from dfqsam.quant.grid import WHOLE, Affine, code_limits, pair_safe, weight_codes, weight_scales
from dfqsam.quant.ops import quantized_conv, quantized_linear
from dfqsam.quant.rescaling import Rescaling
from dfqsam.quant.rotation import rotate


class CodedLayer(nn.Module, ABC):
    """A layer whose weights are integer codes with scales; what enters is up to the kind.

    Attributes:
        codes, scale: of the weights, as the kind lays them out.
        bias: 1 x 1 x N float32 or None. The shape matters: behind a 1-D bias ONNX Runtime computes in float.
        weight_bits: 2 to 8.
        origin: G x N/G x K, the weights that the codes stand for, before they were rounded: groups, outputs and inputs
            of each. No part of what is saved or exported.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor | None
    origin: Tensor

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, weight_bits: int) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach().reshape(1, 1, -1).clone())
        self.weight_bits = weight_bits

    @abstractmethod
    def weights(self) -> Tensor:
        """The rounded weights, laid out as ``origin``: G x N/G x K."""

    @abstractmethod
    def fitted(self, weight: Tensor, moment: Tensor, damping: float) -> tuple[Tensor, Tensor, Tensor]:
        """Codes and scales, as :meth:`set_weights` takes them, that stand for ``weight`` (G x N/G x K) with little
        error of the outputs, and the weights that they make (:mod:`dfqsam.quant.gptq`).

        Args:
            moment: G x K x K, mean of x xᵀ over what the weights are multiplied with.
            damping: see :func:`dfqsam.quant.gptq.gptq`.
        """

    @abstractmethod
    def set_weights(self, codes: Tensor, scale: Tensor) -> None:
        """Puts other weights in place, codes (integers) laid out as ``origin``."""

    @abstractmethod
    def on_grid(self) -> bool:
        """Whether the deployed graph computes with exactly these weights."""

    def add_bias(self, shift: Tensor) -> None:
        """Adds ``shift`` (N) to every output."""
        shift = shift.detach().reshape(1, 1, -1).to(self.scale.dtype)
        self.bias = shift.clone() if self.bias is None else self.bias + shift


class QuantizedLayer(CodedLayer):
    """Integer weights with one scale per output channel, and an affine grid for what enters.

    Attributes:
        codes: int8, on the grid of ``weight_bits`` (:func:`dfqsam.quant.grid.code_limits`).
        scale: float32, one per output channel, negative where a grid of fewer than 8 bits is turned round.
        center, divisor: C or None each; what enters is moved by the one and divided by the other, which bias and
            weights make up for (:class:`dfqsam.quant.rescaling.Rescaling`).
        rotated: whether what enters is rotated in blocks (:mod:`dfqsam.quant.rotation`); simulated only.
        grid: the grid of the activations, once they are rescaled.
        origin: as in :class:`CodedLayer`; what enters is rescaled already.
    """

    center: Tensor | None
    divisor: Tensor | None

    def __init__(
        self,
        codes: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        grid: Affine,
        weight_bits: int,
        change: Rescaling | None = None,
    ) -> None:
        super().__init__(codes, scale, bias, weight_bits)
        moved = change is not None and bool(change.center.any())
        self.register_buffer("center", change.center if change is not None and moved else None)
        self.register_buffer("divisor", None if change is None else change.ratio)
        self.grid, self.rotated = grid, False

    def rescaled(self, x: Tensor) -> Tensor:
        """… x C as it is rounded: with center, divisor and rotation where the layer has them."""
        x = x if self.center is None else x - self.center
        x = x if self.divisor is None else x / self.divisor
        return rotate(x) if self.rotated else x

    def weights(self) -> Tensor:
        return self.rows() * self.scale.reshape(*self.origin.shape[:2], 1)

    def fitted(self, weight: Tensor, moment: Tensor, damping: float) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`CodedLayer.fitted`; the scale of each output (G x N) is chosen with the codes."""
        codes, scale = gptq_with_scales(weight, moment, self.weight_bits, damping, isinstance(self, QuantizedLinear))
        codes = self.safe(codes) if self.weight_bits == WHOLE else codes
        return codes, scale, codes * scale[..., None]

    def set_weights(self, codes: Tensor, scale: Tensor) -> None:
        """Puts other weights in place: G x N/G x K integers and G x N/G scales, as ``origin`` is laid out."""
        flat = codes.flatten(0, 1).to(torch.int8)
        self.codes = (flat.T if isinstance(self, QuantizedLinear) else flat.reshape(self.codes.shape)).contiguous()
        self.scale = scale.flatten().float()

    @torch.no_grad()
    def on_grid(self) -> bool:
        """Whether every weight lies on the integer grid of its bits, and is safe in pairs where products are summed."""
        low, high = code_limits(self.weight_bits)
        fits = self.codes.dtype == torch.int8 and low <= int(self.codes.min()) and int(self.codes.max()) <= high
        if not fits or self.weight_bits < WHOLE:
            return fits
        rows = self.rows().float()
        return torch.equal(self.safe(rows), rows)

    @abstractmethod
    def rows(self) -> Tensor:
        """``codes`` laid out as ``origin``."""

    @abstractmethod
    def safe(self, codes: Tensor) -> Tensor:
        """``codes`` (laid out as ``origin``, as floats) made safe in pairs, see :func:`dfqsam.quant.grid.pair_safe`, in
        the order in which a matrix kernel of the deployed graph sums over them."""

    def extra_repr(self) -> str:
        return f"{tuple(self.codes.shape)}, w{self.weight_bits} a{self.grid.bits}"


class QuantizedLinear(QuantizedLayer):
    """… x K to … x N; codes are K x N, safe in pairs along K (see :func:`dfqsam.quant.grid.pair_safe`)."""

    @classmethod
    def of(
        cls,
        linear: nn.Linear,
        scale: Tensor,
        grid: Affine,
        weight_bits: int,
        change: Rescaling | None = None,
        rotated: bool = False,
    ) -> QuantizedLinear:
        """From a Linear (or Pointwise) and the ``scale`` (N) of its weights.

        Args:
            change, rotated: of what enters; ``scale`` and ``grid`` are those of what is rescaled and rotated then.
        """
        weight = linear.weight.detach() if change is None else linear.weight.detach() * change.ratio
        weight = rotate(weight) if rotated else weight
        codes = weight_codes(weight, scale, weight_bits, pairs=True)
        layer = cls(codes.T.contiguous(), scale, linear.bias, grid, weight_bits, change)
        layer.rotated = rotated
        if change is not None:
            layer.add_bias(linear.weight @ change.center)
        layer.origin = weight[None].clone()
        return layer

    def rows(self) -> Tensor:
        return self.codes.T[None]

    def safe(self, codes: Tensor) -> Tensor:
        return pair_safe(codes[0])[None]

    def forward(self, x: Tensor) -> Tensor:
        grid, x = self.grid, self.rescaled(x)
        return quantized_linear(x, self.codes, self.scale, self.bias, grid.scale, grid.zero_point, grid.bits)


class QuantizedConv(QuantizedLayer):
    """A convolution on B x H x W x C; codes are N x C/groups x k x k, safe in pairs along the channels of a place where
    it is dense. What is moved is padded before that."""

    def __init__(
        self,
        codes: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        grid: Affine,
        weight_bits: int,
        padding: int,
        stride: int = 1,
        groups: int = 1,
        change: Rescaling | None = None,
    ) -> None:
        super().__init__(codes, scale, bias, grid, weight_bits, change)
        self.padding, self.stride, self.groups = padding, stride, groups

    @classmethod
    def of(cls, conv: nn.Conv2d, grid: Affine, weight_bits: int, change: Rescaling | None = None) -> QuantizedConv:
        """From a convolution whose padding and stride are the same both ways.

        Args:
            change: of what enters a dense or a depthwise convolution; ``grid`` is that of what is rescaled then.
        """
        dense, weight, shift = conv.groups == 1, conv.weight, None
        if change is not None:
            each = len(weight) // conv.groups  # filters that a group's channels meet
            assert dense or conv.groups == conv.in_channels
            ratio, center = (
                value[None] if dense else value.repeat_interleave(each)[:, None]
                for value in (change.ratio, change.center)
            )
            weight, shift = weight * ratio[..., None, None], (weight.sum((2, 3)) * center).sum(1)
        rows = weight.permute(0, 2, 3, 1)  # the order in which a deployed graph sums (dfqsam.export.lowering)
        scale = weight_scales(rows, weight_bits, pairs=dense)
        codes = weight_codes(rows, scale, weight_bits, pairs=dense).permute(0, 3, 1, 2).contiguous()
        padding, stride = int(conv.padding[0]), int(conv.stride[0])
        layer = cls(codes, scale, conv.bias, grid, weight_bits, padding, stride, conv.groups, change)
        if shift is not None and bool(shift.any()):
            layer.add_bias(shift)
        layer.origin = weight.detach().flatten(1).unflatten(0, (conv.groups, -1)).clone()
        return layer

    def rows(self) -> Tensor:
        return self.codes.flatten(1).unflatten(0, (self.groups, -1))

    def safe(self, codes: Tensor) -> Tensor:
        if self.groups > 1:  # no matrix kernel computes these
            return codes
        kernels = codes[0].reshape(self.codes.shape).permute(0, 2, 3, 1)  # see dfqsam.export.lowering
        return pair_safe(kernels.flatten(1)).reshape(kernels.shape).permute(0, 3, 1, 2).reshape(codes.shape)

    def forward(self, x: Tensor) -> Tensor:
        grid, padding = self.grid, self.padding
        if self.center is not None:
            x, padding = F.pad(x, (0, 0, padding, padding, padding, padding)), 0
        x = self.rescaled(x)
        return quantized_conv(
            x,
            self.codes,
            self.scale,
            self.bias,
            grid.scale,
            grid.zero_point,
            grid.bits,
            padding,
            self.stride,
            self.groups,
        )


def replace(root: nn.Module, name: str, module: nn.Module) -> None:
    """Puts ``module`` at the dotted ``name`` below ``root``, in the mode (training or not) of what was there."""
    parent, _, leaf = name.rpartition(".")
    owner = root.get_submodule(parent)
    module.train(root.get_submodule(name).training)
    if leaf.isdigit() and isinstance(owner, nn.Sequential):
        owner[int(leaf)] = module
    else:
        setattr(owner, leaf, module)


def require_on_grid(encoder: nn.Module) -> None:
    """Lets a quantized encoder through to the export or stops it.

    Raises:
        ParityError: naming the first layer whose weights are off their grid (:meth:`CodedLayer.on_grid`), or the first
            module in training mode (dropout would be active).
    """
    for name, module in encoder.named_modules():
        if module.training:
            raise ParityError(f"The module {name or 'encoder'} is in training mode; call eval() before exporting.")
        if isinstance(module, CodedLayer) and not module.on_grid():
            raise ParityError(f"The weights of the layer {name} are off their {module.weight_bits}-bit integer grid.")
