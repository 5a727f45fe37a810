"""Attention on integers (:mod:`dfqsam.sam.integer_attention`) as standard ONNX, in pieces that fit a cache.

An export first writes one node for it, because optimizers take minutes for thousands; :func:`write_out` replaces that
node by the operators that it stands for. Each product of queries and keys has a scale that no other has, which is what
ONNX Runtime's fusion into ``MatMulIntegerToFloat`` asks for; scores are read and written as few times as separate
operators allow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.defs import OpSchema
from onnxscript.values import Op, Opset

from dfqsam.sam.integer_attention import LEAST, QUERY_TOP, SHARE_TOP, TOP, rows_of

DOMAIN, NAME = "dfqsam", "AttentionOnIntegers"
SCORES = 2**21  # that are computed at a time: 8 MB
INPUTS = ("query", "key", "value", "vertical", "horizontal")


def _schema() -> OpSchema:
    kinds = {"heads": OpSchema.AttrType.INT, "side": OpSchema.AttrType.INT, "scale": OpSchema.AttrType.FLOAT}
    return OpSchema(
        NAME,
        DOMAIN,
        1,
        inputs=[OpSchema.FormalParameter(name, "tensor(float)") for name in INPUTS],
        outputs=[OpSchema.FormalParameter("mixed", "tensor(float)")],
        attributes=[OpSchema.Attribute(name, kind) for name, kind in kinds.items()],
    )


_one_node: Any = Op(Opset(DOMAIN, 1), NAME, _schema())


def attention_on_integers(query: Any, key: Any, value: Any, vertical: Any, horizontal: Any, scale: float) -> Any:
    side = vertical.shape[-1]
    return _one_node(query, key, value, vertical, horizontal, heads=query.shape[0], side=side, scale=scale)


def write_out(model: ModelProto) -> int:
    """Replaces the nodes that stand for attention on integers, in place; returns how many there were."""
    found, nodes = _Nodes(), []
    count = 0
    for node in model.graph.node:
        if node.domain == DOMAIN:
            count += 1
            found.begin(f"{NAME}{count}")
            _attention(found, node)
            nodes += found.made
        else:
            nodes.append(node)
    if count:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(found.constants.values())
        domains = [opset for opset in model.opset_import if opset.domain != DOMAIN]
        del model.opset_import[:]
        model.opset_import.extend(domains)
    return count


class _Nodes:
    """Nodes as they are written, named after what they belong to; equal constants are one."""

    def __init__(self) -> None:
        self.made: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.prefix = ""

    def begin(self, prefix: str) -> None:
        self.made, self.prefix = [], prefix

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self.prefix}.{len(self.made)}"
        self.made.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: Any) -> str:
        array = np.asarray(value)
        name = f"constant.{array.dtype}.{'_'.join(str(number) for number in array.flatten())}"
        name += ".list" if array.ndim else ""
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def floats(self, value: float) -> str:
        return self.constant(np.float32(value))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def rounded(self, x: str, axes: tuple[int, ...], top: int, zero: str) -> tuple[str, str]:
        """Codes and scales of x, a scale for all values along ``axes``."""
        reach = self("Max", self("ReduceMax", self("Abs", x), self.integers(*axes)), self.floats(LEAST))
        scale = self("Div", reach, self.floats(top))
        return self("QuantizeLinear", self("Div", x, scale), self.floats(1), zero), scale

    def slice(self, x: str, *cuts: tuple[int, int, int]) -> str:
        """x from start to stop along each axis of ``cuts`` (axis, start, stop)."""
        axes, starts, stops = (self.integers(*values) for values in zip(*cuts, strict=True))
        return self("Slice", x, starts, stops, axes)

    def cast(self, sums: str) -> str:
        return self("Cast", sums, to=TensorProto.FLOAT)

    def concat(self, parts: list[str], axis: int) -> str:
        return self("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]


def _attention(g: _Nodes, node: NodeProto) -> None:
    """What :func:`dfqsam.sam.integer_attention.attention_on_integers` computes, strip by strip and a few heads at a
    time; whatever is as small as queries, keys and values is computed for all of them at once."""
    query, key, value, vertical, horizontal = node.input
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    heads, side, tokens = settings["heads"], settings["side"], settings["side"] ** 2
    count = rows_of(side) * side
    unsigned, signed, none = (g.constant(zero) for zero in (np.uint8(128), np.int8(0), np.uint8(0)))
    centred = g("Sub", key, g("ReduceMean", key, g.integers(1)))
    keys, key_scale = (g("Transpose", x, perm=[0, 2, 1]) for x in g.rounded(centred, (2,), TOP, signed))
    mean = g("ReduceMean", value, g.integers(1))
    values, value_scale = g.rounded(g("Sub", value, mean), (1,), TOP, signed)
    strips = g("Reshape", query, g.integers(0, tokens // count, count, -1))
    queries, query_scale = g.rounded(strips, (2, 3), QUERY_TOP, unsigned)
    queries = g("Reshape", queries, g.integers(0, tokens, -1))
    key_scale = g("Mul", key_scale, g.floats(settings["scale"]))
    scale = g("Mul", g("Reshape", query_scale, g.integers(0, -1, 1)), key_scale)  # heads x strips x tokens
    down, across = g("Unsqueeze", vertical, g.integers(3)), g("Unsqueeze", horizontal, g.integers(2))

    together = max(1, SCORES // (count * tokens))
    parts = []
    for head in range(0, heads, together):
        some = (0, head, min(head + together, heads))
        own_keys, own_values = (g.slice(x, some) for x in (keys, values))
        own_parts = []
        for strip in range(tokens // count):
            piece = some, (1, strip * count, (strip + 1) * count)
            products = g.cast(g("MatMulInteger", g.slice(queries, *piece), own_keys, unsigned))
            scores = g("Mul", products, g.slice(scale, some, (1, strip, strip + 1)))
            scores = g("Add", g("Reshape", scores, g.integers(0, 0, side, side)), g.slice(across, *piece))
            below = g.slice(down, *piece)
            largest = g("Add", g("ReduceMax", scores, g.integers(3)), below)
            below = g("Sub", below, g("ReduceMax", largest, g.integers(2)))
            shares = g("Reshape", g("Exp", g("Add", scores, below)), g.integers(0, 0, tokens))
            rounded = g("QuantizeLinear", shares, g.floats(1 / SHARE_TOP), none)
            # Divided here, so that a runtime is through with these shares before it makes the next.
            mixed = g.cast(g("MatMulInteger", rounded, own_values))
            own_parts.append(g("Div", mixed, g("ReduceSum", shares, g.integers(2))))
        parts.append(g.concat(own_parts, 1))
    mixed = g("Mul", g.concat(parts, 0), g("Div", value_scale, g.floats(SHARE_TOP)))
    g("Add", mixed, mean)
    g.made[-1].output[0] = node.output[0]  # what the rest of the graph calls the result
