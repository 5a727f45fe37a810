"""A graph as a processor without VNNI computes it: products of u8 and s8 added two at a time in saturating 16 bits."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dfqsam.runtime.sessions import session

LEAST, MOST = -(1 << 15), (1 << 15) - 1


def saturating_product(a: NDArray[np.uint8], b: NDArray[np.int8]) -> NDArray[np.int32]:
    """a (M x K) times b (K x N) as vpmaddubsw and vpmaddwd add: pairs along K in 16 bits, the rest in 32."""
    a, b = (np.pad(x, ((0, -x.shape[0] % 2), (0, 0))).astype(np.int32) for x in (a.T, b))
    pairs = np.einsum("pim,pin->pmn", a.reshape(-1, 2, a.shape[1]), b.reshape(-1, 2, b.shape[1]))
    return pairs.clip(LEAST, MOST).sum(0).astype(np.int32)


def unsafe_pairs(matrix: NDArray[np.int8]) -> NDArray[np.int64]:
    """Pair and column (each U) of ``matrix`` (K x N) that some u8 activations saturate: 2 x U."""
    whole = len(matrix) // 2 * 2
    pairs = matrix[:whole].astype(int).reshape(-1, 2, matrix.shape[1])
    above, below = 255 * pairs.clip(min=0).sum(1), 255 * pairs.clip(max=0).sum(1)
    return np.stack(np.nonzero((above > MOST) | (below < LEAST)))


def matrices(model: onnx.ModelProto, picture: NDArray[np.uint8]) -> dict[str, NDArray[np.int8]]:
    """By the name of its result: what every MatMulInteger multiplies by (some are cut or turned at loading)."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    products = [node for node in tapped.graph.node if node.op_type == "MatMulInteger"]
    names = list(dict.fromkeys(node.input[1] for node in products))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in tapped.graph.initializer if tensor.name in names}
    computed = [name for name in names if name not in stored]
    del tapped.graph.output[:]
    tapped.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in computed)
    found = session(tapped.SerializeToString(), 1).run(computed, {"image": picture}) if computed else []
    stored |= {name: np.asarray(value) for name, value in zip(computed, found, strict=True)}
    return {node.output[0]: stored[node.input[1]] for node in products}


def exact(model: onnx.ModelProto, by: dict[str, NDArray[np.int8]]) -> onnx.ModelProto:
    """``model`` with sums that are right on every processor: matrices that can saturate are multiplied by halves.

    Args:
        by: what :func:`matrices` gives.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes: list[NodeProto] = []
    for node in copy.graph.node:
        unsafe = node.op_type == "MatMulInteger" and unsafe_pairs(by[node.output[0]]).size
        nodes += _halved(copy, node, by[node.output[0]]) if unsafe else [node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def saturating(model: onnx.ModelProto, by: dict[str, NDArray[np.int8]]) -> tuple[onnx.ModelProto, int]:
    """``model`` with what saturation takes away subtracted from the sums of every MatMulInteger, on any processor, and
    how many pairs can saturate.

    Args:
        by: what :func:`matrices` gives.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes: list[NodeProto] = []
    count = 0
    for node in copy.graph.node:
        matrix = by[node.output[0]] if node.op_type == "MatMulInteger" else None
        if matrix is None or not (places := unsafe_pairs(matrix)).size:
            nodes.append(node)
            continue
        lost = _cut_off(copy, node, matrix, places)  # turns to the exact sums, which it names anew
        nodes += [*_halved(copy, node, matrix), *lost]
        count += places.shape[1]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy, count


def _halved(model: onnx.ModelProto, node: NodeProto, matrix: NDArray[np.int8]) -> list[NodeProto]:
    """The product of ``node`` as the sum of two, whose codes reach 64: 255 * (64 + 64) fits 16 bits."""
    result = node.output[0]
    small = matrix >> 1
    for name, half in (("small", small), ("rest", matrix - small)):
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(half), f"{result}.half_{name}"))
    halves = [
        helper.make_node(
            "MatMulInteger", [node.input[0], f"{result}.half_{name}", *node.input[2:]], [f"{result}.by_{name}"]
        )
        for name in ("small", "rest")
    ]
    return [*halves, helper.make_node("Add", [f"{result}.by_small", f"{result}.by_rest"], [result])]


def _cut_off(
    model: onnx.ModelProto, node: NodeProto, matrix: NDArray[np.int8], places: NDArray[np.int64]
) -> list[NodeProto]:
    result, (pairs, columns) = node.output[0], places
    node.output[0] = f"{result}.exact"
    constants = {
        "first": 2 * pairs,
        "second": 2 * pairs + 1,
        "times_first": matrix[2 * pairs, columns].astype(np.float32),
        "times_second": matrix[2 * pairs + 1, columns].astype(np.float32),
        "least": np.float32(LEAST),
        "most": np.float32(MOST),
        "into": np.eye(matrix.shape[1], dtype=np.float32)[columns],
    }
    own = {name: f"{result}.{name}" for name in constants}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), own[k]) for k, v in constants.items())
    made: list[NodeProto] = []

    def add(kind: str, inputs: list[str], name: str, **attributes: int) -> str:
        made.append(helper.make_node(kind, inputs, [f"{result}.{name}"], **attributes))
        return f"{result}.{name}"

    products = []
    for which in ("first", "second"):
        taken = add("Gather", [node.input[0], own[which]], f"taken_{which}", axis=-1)
        floats = add("Cast", [taken], f"floats_{which}", to=TensorProto.FLOAT)
        products.append(add("Mul", [floats, own[f"times_{which}"]], f"product_{which}"))
    exact = add("Add", products, "pair")
    cut = add("Clip", [exact, own["least"], own["most"]], "saturated")
    lost = add("Sub", [cut, exact], "lost")
    summed = add("MatMul", [lost, own["into"]], "lost_of_columns")
    whole = add("Cast", [summed], "lost_whole", to=TensorProto.INT32)
    made.append(helper.make_node("Add", [node.output[0], whole], [result]))
    return made
