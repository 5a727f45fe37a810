"""How the quantized operators become standard ONNX: QuantizeLinear, DequantizeLinear, MatMul; ConvInteger for kernels.

ONNX Runtime fuses the Linear form into ``MatMulIntegerToFloat`` (methods: 12.1). The same pattern around a Conv whose
output stays float is not fused, so a convolution is written with ConvInteger and its scales behind it. What a layer
(:class:`dfqsam.quant.layers.QuantizedLayer`) does to its inputs first are an ordinary Pad, Sub and Div in front.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from onnxscript import opset21

import dfqsam.quant.ops  # noqa: F401  (registers the operators)

op: Any = opset21


def _constant(value: np.generic) -> Any:
    return op.Constant(value=numpy_helper.from_array(np.asarray(value)))


def _quantize(x: Any, step: float, zero_point: int, bits: int) -> tuple[Any, Any, Any]:
    """The u8 codes of x, and the scale and zero point as constants. Eight bits saturate by themselves."""
    if bits < 8:
        low, high = -zero_point * step, (2**bits - 1 - zero_point) * step
        x = op.Clip(x, _constant(np.float32(low)), _constant(np.float32(high)))
    scale, zero = _constant(np.float32(step)), _constant(np.uint8(zero_point))
    return op.QuantizeLinear(x, scale, zero), scale, zero


def linear(x: Any, codes: Any, scale: Any, bias: Any, step: float, zero_point: int, bits: int) -> Any:
    quantized, activation_scale, zero = _quantize(x, step, zero_point, bits)
    y = op.MatMul(
        op.DequantizeLinear(quantized, activation_scale, zero),
        op.DequantizeLinear(codes, scale, axis=1),
    )
    return y if bias is None else op.Add(y, bias)


def conv(
    x: Any,
    codes: Any,
    scale: Any,
    bias: Any,
    step: float,
    zero_point: int,
    bits: int,
    padding: int,
    stride: int,
    groups: int,
) -> Any:
    quantized, activation_scale, zero = _quantize(x, step, zero_point, bits)
    sums = op.ConvInteger(quantized, codes, zero, group=groups, pads=[padding] * 4, strides=[stride] * 2)
    column = op.Reshape(scale, op.Constant(value_ints=[1, -1, 1, 1]))
    y = op.Mul(op.Cast(sums, to=TensorProto.FLOAT), op.Mul(column, activation_scale))
    return y if bias is None else op.Add(y, op.Reshape(bias, op.Constant(value_ints=[1, -1, 1, 1])))


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For ``torch.onnx.export(custom_translation_table=…)``."""
    return {
        torch.ops.dfqsam.quantized_linear.default: linear,
        torch.ops.dfqsam.quantized_conv.default: conv,
    }
