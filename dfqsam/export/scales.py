"""Scales of integer products that stay no constants while ONNX Runtime optimizes a graph.

Its fusion of MatMulInteger, Cast, Mul and Add into ``MatMulIntegerToFloat`` looks for a product of two scales. A
product of constants is folded before it looks, so one factor is made at run time: 1, found from the picture's size.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

UNIT = "unit"


def name_matrices(model: ModelProto) -> None:
    """Names what every MatMulInteger multiplies by after the initializer that it is made of, so that a layer can be
    found again once the graph is optimized."""
    makers = {output: node for node in model.graph.node for output in node.output}
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            source = matrix = node.input[1]
            while source in makers:
                source = makers[source].input[0]
            if source != matrix:
                renamed[matrix] = f"{source}.matrix"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = renamed.get(name, name)


def scale_at_run_time(model: ModelProto) -> int:
    """Multiplies the scale behind every MatMulInteger by a 1 that is computed, in place; returns how many."""
    makers = {output: node for node in model.graph.node for output in node.output}

    def behind_product(name: str) -> bool:
        cast = makers.get(name)
        return (
            cast is not None
            and cast.op_type == "Cast"
            and cast.input[0] in makers
            and makers[cast.input[0]].op_type == "MatMulInteger"
        )

    nodes: list[NodeProto] = []
    count = 0
    for node in model.graph.node:
        if node.op_type == "Mul" and behind_product(node.input[0]):
            name = f"{node.input[1]}.{UNIT}"
            nodes.append(helper.make_node("Mul", [UNIT, node.input[1]], [name], name=f"node_{name}"))
            node.input[1] = name
            count += 1
        nodes.append(node)
    if count:
        zero = numpy_helper.from_array(np.array(0, np.int64), f"{UNIT}.zero")
        model.graph.initializer.append(zero)
        picture = model.graph.input[0].name
        first = [
            helper.make_node("Size", [picture], [f"{UNIT}.size"], name=f"node_{UNIT}.size"),
            helper.make_node("Greater", [f"{UNIT}.size", zero.name], [f"{UNIT}.any"], name=f"node_{UNIT}.any"),
            helper.make_node("Cast", [f"{UNIT}.any"], [UNIT], name=f"node_{UNIT}", to=TensorProto.FLOAT),
        ]
        del model.graph.node[:]
        model.graph.node.extend([*first, *nodes])
    return count
