"""How the operators of a quantized encoder become standard ONNX.

A matrix product is written as QuantizeLinear, MatMulInteger, Cast, Mul and Add, which ONNX Runtime fuses into one
``MatMulIntegerToFloat`` with its bias as long as the scale is no constant when the graph is optimized
(:func:`dfqsam.export.products.scale_at_run_time`). Between DequantizeLinears it fuses too, but then leaves the bias to
a pass of its own (one thread, 128 x 128 x 128 to 512 with a GELU behind it: 15.8 ms in place of 23.9).

A dense convolution is a matrix product of shifted copies of its codes (3 x 3, 256 to 256 channels on 64 x 64, one
thread with AMX: 6 ms in place of 150 with ConvInteger, the same sums). A depthwise one is a ConvInteger. What a layer
(:class:`dfqsam.quant.layers.QuantizedLayer`) does to its inputs first are an ordinary Pad, Sub and Div in front.

Weights in blocks are multiplied by ONNX Runtime's own ``MatMulNBits``, written as such: of DequantizeLinear and MatMul
it would make one that rounds activations to eight bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from onnxscript import opset23

import dfqsam.quant.ops
import dfqsam.sam.fused
import dfqsam.sam.integer_attention  # noqa: F401  (all three register operators)
from dfqsam.export.contrib import matmul_nbits
from dfqsam.export.integer_attention import attention_on_integers

op: Any = opset23
FLOAT_ACTIVATIONS = 1  # of MatMulNBits' accuracy levels


def _constant(value: Any) -> Any:
    return op.Constant(value=numpy_helper.from_array(np.asarray(value)))


def _integers(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def _quantize(x: Any, step: float, zero_point: int, bits: int) -> tuple[Any, Any]:
    """The u8 codes of x, and the zero point as a constant. Eight bits saturate by themselves."""
    if bits < 8:
        low, high = -zero_point * step, (2**bits - 1 - zero_point) * step
        x = op.Clip(x, _constant(np.float32(low)), _constant(np.float32(high)))
    zero = _constant(np.uint8(zero_point))
    return op.QuantizeLinear(x, _constant(np.float32(step)), zero), zero


def _scaled(scale: Any, step: float) -> Any:
    return op.Mul(scale, _constant(np.float32(step)))


def _multiply(quantized: Any, zero: Any, codes: Any, scale: Any, bias: Any, step: float) -> Any:
    """u8 codes … x K times K x N weights, as floats; the bias as a row, which is what the fusion takes."""
    sums = op.Cast(op.MatMulInteger(quantized, codes, zero), to=TensorProto.FLOAT)
    y = op.Mul(sums, _scaled(scale, step))
    return y if bias is None else op.Add(y, op.Reshape(bias, _integers(-1)))


def linear(x: Any, codes: Any, scale: Any, bias: Any, step: float, zero_point: int, bits: int) -> Any:
    quantized, zero = _quantize(x, step, zero_point, bits)
    return _multiply(quantized, zero, codes, scale, bias, step)


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
    quantized, zero = _quantize(x, step, zero_point, bits)
    if groups > 1:
        planes = op.Transpose(quantized, perm=[0, 3, 1, 2])
        sums = op.ConvInteger(planes, codes, zero, group=groups, pads=[padding] * 4, strides=[stride] * 2)
        y = op.Mul(op.Transpose(op.Cast(sums, to=TensorProto.FLOAT), perm=[0, 2, 3, 1]), _scaled(scale, step))
        return y if bias is None else op.Add(y, bias)
    if padding:
        quantized = op.Pad(quantized, _integers(padding, padding, padding, padding), zero, _integers(1, 2))
    side, last = codes.shape[2], np.iinfo(np.int64).max
    parts = []
    for i in range(side):
        for j in range(side):
            # The last row and column that this place of the kernel meets.
            begin, end = _integers(i, j), _integers(i - side + 1 or last, j - side + 1 or last)
            parts.append(op.Slice(quantized, begin, end, _integers(1, 2), _integers(stride, stride)))
    places = op.Concat(*parts, axis=3) if len(parts) > 1 else parts[0]
    matrix = op.Reshape(op.Transpose(codes, perm=[2, 3, 1, 0]), _integers(-1, codes.shape[0]))
    return _multiply(places, zero, matrix, scale, bias, step)


def block_linear(x: Any, codes: Any, scale: Any, bias: Any, inputs: int) -> Any:
    outputs, _, size = codes.shape
    row = None if bias is None else op.Reshape(bias, _integers(-1))
    return matmul_nbits(
        x,
        codes,
        scale,
        None,  # zero points: 8 everywhere
        None,  # order of the inputs
        row,
        K=inputs,
        N=outputs,
        bits=4,
        block_size=2 * size,
        accuracy_level=FLOAT_ACTIVATIONS,
    )


def attention(query: Any, key: Any, value: Any, bias: Any, heads: int, scale: float) -> Any:
    # The caches that the operator gives besides are dropped in dfqsam.export.trace.tidy.
    mixed, *_ = op.Attention(query, key, value, bias, q_num_heads=heads, kv_num_heads=heads, scale=scale)
    return mixed


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For ``torch.onnx.export(custom_translation_table=…)``."""
    return {
        torch.ops.dfqsam.quantized_linear.default: linear,
        torch.ops.dfqsam.quantized_conv.default: conv,
        torch.ops.dfqsam.block_linear.default: block_linear,
        torch.ops.dfqsam.attention.default: attention,
        torch.ops.dfqsam.attention_on_integers.default: attention_on_integers,
    }
