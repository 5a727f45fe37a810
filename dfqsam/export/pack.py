"""Small files: 4-bit codes as INT4 initializers, float weights that lie on an 8-bit grid as INT8 ones, and those that
half precision holds as FLOAT16.

All stand behind a Cast that ONNX Runtime folds when it loads the graph, so that the kernels are the same as without
(methods: 12.1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

PARTS = ("encoder.", "prompt_encoder.", "mask_decoder.")  # of the model; what is named after one is looked up by name


def pack_int4(values: NDArray[np.int8]) -> bytes:
    """Two codes a byte, the first in the low half, as ONNX stores INT4.

    >>> pack_int4(np.array([1, -1, 7], np.int8)).hex()
    'f107'
    """
    flat = values.reshape(-1).astype(np.int8)
    if len(flat) % 2:
        flat = np.append(flat, np.int8(0))
    nibbles = flat.view(np.uint8) & 0x0F
    return (nibbles[::2] | (nibbles[1::2] << 4)).tobytes()


def pack_weights(model: ModelProto) -> int:
    """Packs every int8 initializer with codes in -8 … 7, in place; returns how many."""
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.INT8:
            continue
        codes = numpy_helper.to_array(tensor)
        if codes.ndim < 2 or codes.min() < -8 or codes.max() > 7:
            continue
        name = tensor.name
        packed = TensorProto(
            name=f"{name}.int4", data_type=TensorProto.INT4, dims=codes.shape, raw_data=pack_int4(codes)
        )
        tensor.CopyFrom(packed)
        casts.append(helper.make_node("Cast", [packed.name], [name], name=f"{name}.unpack", to=TensorProto.INT8))
    _prepend(model, casts)
    return len(casts)


def store_rounded(model: ModelProto, least: int = 2048) -> int:
    """Stores float matrices and kernels whose values lie on 8-bit grids as INT8, in place; returns how many.

    Args:
        least: values that an initializer must have to be worth it.
    """
    graph, nodes, scales = model.graph, [], []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or np.prod(tensor.dims) < least:
            continue
        found = _codes_on_grid(numpy_helper.to_array(tensor))
        if found is None:
            continue
        name, (codes, scale) = tensor.name, found
        tensor.CopyFrom(numpy_helper.from_array(codes, f"{name}.int8"))
        scales.append(numpy_helper.from_array(scale, f"{name}.scale"))
        nodes += [
            helper.make_node("Cast", [f"{name}.int8"], [f"{name}.codes"], name=f"{name}.cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.codes", f"{name}.scale"], [name], name=f"{name}.scaled"),
        ]
    graph.initializer.extend(scales)
    _prepend(model, nodes)
    return len(scales)


def store_halves(model: ModelProto, least: int = 256) -> int:
    """Stores float initializers that half precision holds exactly as FLOAT16, in place; returns how many.

    Args:
        least: values that an initializer must have to be worth it.
    """
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < least:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.whole", to=TensorProto.FLOAT))
    _prepend(model, casts)
    return len(casts)


def _codes_on_grid(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """int8 codes and scales (with the axes of ``weight``) when every value lies on a grid per index of axis 0 or 1."""
    for axis in (0, 1):
        others = tuple(d for d in range(weight.ndim) if d != axis)
        scale = np.maximum(np.abs(weight).max(others, keepdims=True), np.float32(1e-12)) / np.float32(127)
        steps = weight / scale
        if np.abs(steps - np.rint(steps)).max() < 1e-3:
            return np.rint(steps).astype(np.int8), scale
    return None


def _prepend(model: ModelProto, nodes: list[NodeProto]) -> None:
    everything = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(everything)


def shorten_names(model: ModelProto) -> None:
    """Gives values names of a few letters, and nodes those of what they compute, in place: thousands of long ones take
    as much room as a layer. Inputs, outputs, and what is named after a part of the model keep theirs."""
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    found = [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output]
    named = [name for name in found if name not in kept and not name.startswith(PARTS)]
    short = {name: f"_{number:x}" for number, name in enumerate(named)}
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = short.get(name, name)
        node.name = node.output[0]
