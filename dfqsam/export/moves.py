"""What is moved is rounded first: codes of one byte are moved in place of floats of four.

Attention in windows takes tokens out of a grid, those of whole windows and those of windows that reach beyond an edge,
and puts them back; the layers in front of it and behind it round their inputs. Rounding is done value by value, so that
it may come before any move: the codes are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, numpy_helper

SHAPED = ("Gather", "Reshape")
Makers = Mapping[str, NodeProto]  # the nodes of a graph by the names of their results


def makers_of(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


@dataclass(frozen=True)
class Moves:
    """How a value came about of others by moving their numbers: ``parts`` put together, where they are several, then
    gathered and given other shapes by ``nodes``, the first of which is a Concat then."""

    parts: tuple[str, ...]
    nodes: tuple[NodeProto, ...]

    @classmethod
    def behind(cls, name: str, makers: Makers) -> Moves | None:
        """Those that made ``name``; None when nothing was gathered."""
        nodes: list[NodeProto] = []
        while name in makers and makers[name].op_type in SHAPED:
            nodes.append(makers[name])
            name = makers[name].input[0]
        if not any(node.op_type == "Gather" for node in nodes):
            return None
        parts = (name,)
        if name in makers and makers[name].op_type == "Concat":
            nodes.append(makers[name])
            parts = tuple(makers[name].input)
        return cls(parts, tuple(reversed(nodes)))

    @property
    def in_parts(self) -> bool:
        """Whether the result is a lot of what there was, for one product of several that a layer does, and not what a
        layer has as its inputs in the shape that it has them in."""
        return len(self.parts) == 1 and self.nodes[-1].op_type == "Gather"

    def of(self, parts: Sequence[str], result: str) -> list[NodeProto]:
        """The same moves of other values, with their results named after ``result``."""
        made: list[NodeProto] = []
        for i, node in enumerate(self.nodes):
            name = result if i == len(self.nodes) - 1 else f"{result}.{i}"
            first = [made[-1].output[0]] if made else parts
            made.append(copied(node, [*first, *node.input[len(self.parts) if not made else 1 :]], name))
        return made


def copied(node: NodeProto, inputs: Sequence[str], result: str) -> NodeProto:
    """``node`` with other inputs and another result, after which it is named."""
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = result
    del copy.input[:], copy.output[:]
    copy.input.extend(inputs)
    copy.output.append(result)
    return copy


def round_before_moves(model: ModelProto) -> int:
    """Puts every QuantizeLinear, and a Clip before it, in front of the moves whose result it reads, in place; returns
    how many there were. Values that are read through several moves are rounded once for each grid."""
    graph = model.graph
    makers = makers_of(model)
    constants = {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in graph.initializer}
    rounded: dict[tuple[object, ...], str] = {}
    instead: dict[str, list[NodeProto]] = {}  # by the result of the QuantizeLinear that they replace
    for node in graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        clip = makers.get(node.input[0])
        clip = clip if clip is not None and clip.op_type == "Clip" else None
        moves = Moves.behind((clip or node).input[0], makers)
        if moves is None:
            continue
        result, nodes, codes = node.output[0], list[NodeProto](), list[str]()
        grid = tuple(constants.get(name, name) for name in (*(clip.input[1:] if clip else ()), *node.input[1:]))
        for i, part in enumerate(moves.parts):
            if (part, *grid) not in rounded:
                value = part
                if clip is not None:
                    nodes.append(copied(clip, [value, *clip.input[1:]], f"{result}.clipped{i}"))
                    value = nodes[-1].output[0]
                nodes.append(copied(node, [value, *node.input[1:]], f"{result}.part{i}"))
                rounded[part, *grid] = nodes[-1].output[0]
            codes.append(rounded[part, *grid])
        instead[result] = [*nodes, *moves.of(codes, result)]
    _keep_what_is_read(model, [new for node in graph.node for new in instead.get(node.output[0], [node])])
    return len(instead)


def _keep_what_is_read(model: ModelProto, nodes: list[NodeProto]) -> None:
    read, kept = {output.name for output in model.graph.output}, list[NodeProto]()
    for node in reversed(nodes):
        if any(name in read for name in node.output):
            read.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
