"""Which kernels really run: the operators of the graph as ONNX Runtime optimizes it."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort

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


def integer_kernels(model: bytes) -> int:
    """How many operators of the optimized graph are integer matrix products or convolutions."""
    counts = census(model)
    return sum(counts[name] for name in INTEGER_KERNELS)
