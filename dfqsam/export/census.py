"""Which kernels really run: the operators of the graph as ONNX Runtime optimizes it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime as ort

from dfqsam.errors import ParityError

BLOCK_KERNELS = ("MatMulNBits",)  # weights of four bits, activations in floating point
INTEGER_KERNELS = ("MatMulIntegerToFloat", "QLinearMatMul", "MatMulInteger", "ConvInteger", "QLinearConv")


def optimized(model: bytes) -> onnx.ModelProto:
    """The graph that ONNX Runtime runs on this machine's CPU."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


def census(model: bytes) -> Counter[str]:
    """How often each operator stands in the optimized graph."""
    return Counter(node.op_type for node in optimized(model).graph.node)


def kernels(model: bytes, prefix: str = "encoder.") -> dict[str, str]:
    """By quantized layer: the operator that multiplies by its weights in the optimized graph, such as
    ``MatMulIntegerToFloat``. One that is none of :data:`INTEGER_KERNELS` computes in floating point, with weights as
    they are stored only if it is one of :data:`BLOCK_KERNELS`."""
    found: dict[str, str] = {}
    for node in optimized(model).graph.node:
        for name in node.input:
            layer, codes, _ = name.removeprefix(prefix).partition(".codes")
            if codes and name.startswith(prefix):
                found[layer] = node.op_type
    return found


def require_kernels(found: Mapping[str, str], layers: Sequence[str], block: int | None) -> None:
    """Lets a quantized encoder through or stops it.

    Args:
        found: what :func:`kernels` says of it.
        layers: names of its quantized layers.
        block: of their weights, see :class:`dfqsam.config.QuantConfig`; None for integer kernels.

    Raises:
        ParityError: naming the quantized layers that do not run on such kernels on this machine.
    """
    if block is None:
        require_integer_kernels(found, layers)
    elif others := [name for name in layers if found.get(name) not in BLOCK_KERNELS]:
        named = ", ".join(f"{name} ({found.get(name, 'not found')})" for name in others[:4])
        raise ParityError(f"{len(others)} of {len(layers)} layers do not run on 4-bit weights here: {named}.")


def require_integer_kernels(found: Mapping[str, str], layers: Sequence[str]) -> None:
    """As :func:`require_kernels` for layers that take integers on both sides."""
    floats = [name for name in layers if found.get(name) not in INTEGER_KERNELS]
    if floats:
        named = ", ".join(f"{name} ({found.get(name, 'not found')})" for name in floats[:4])
        raise ParityError(f"{len(floats)} of {len(layers)} quantized layers run in floating point here: {named}.")
