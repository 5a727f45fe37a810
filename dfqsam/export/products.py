"""Integer products of an exported graph, rearranged so that ONNX Runtime computes each with its bias in one kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dfqsam.export.moves import Makers, makers_of

UNIT = "unit"


@dataclass(frozen=True)
class _Product:
    """MatMulInteger, Cast, Mul and, where there is a bias, Add."""

    product: NodeProto
    cast: NodeProto
    scaled: NodeProto
    added: NodeProto | None

    @property
    def nodes(self) -> list[NodeProto]:
        return [node for node in (self.product, self.cast, self.scaled, self.added) if node is not None]


def _product_behind(name: str, makers: Makers) -> _Product | None:
    """The product whose result is ``name``."""
    node = makers.get(name)
    added = node if node is not None and node.op_type == "Add" else None
    scaled = node if added is None else makers.get(added.input[0])
    if scaled is None or scaled.op_type != "Mul":
        return None
    cast = makers.get(scaled.input[0])
    product = None if cast is None or cast.op_type != "Cast" else makers.get(cast.input[0])
    if cast is None or product is None or product.op_type != "MatMulInteger":
        return None
    return _Product(product, cast, scaled, added)


def write_matrices(model: ModelProto) -> int:
    """Stores kernels that a MatMulInteger multiplies by as the matrix that it takes, under the kernel's name, in place;
    returns how many. A device that made them so when it loads the graph would hold them three times for a moment
    (SAM-Med2D, w8a8: 810 MB in place of 434, and a second more)."""
    makers, tensors = makers_of(model), {tensor.name: tensor for tensor in model.graph.initializer}
    gone: list[NodeProto] = []
    for node in model.graph.node:
        shaped = makers.get(node.input[1]) if node.op_type == "MatMulInteger" else None
        turned = makers.get(shaped.input[0]) if shaped is not None and shaped.op_type == "Reshape" else None
        if shaped is None or turned is None or turned.op_type != "Transpose" or turned.input[0] not in tensors:
            continue
        tensor = tensors[turned.input[0]]
        kernel = numpy_helper.to_array(tensor).transpose(list(turned.attribute[0].ints))
        matrix = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]))
        tensor.CopyFrom(numpy_helper.from_array(matrix, tensor.name))
        node.input[1] = tensor.name
        gone += [turned, shaped]
    kept = [node for node in model.graph.node if not any(node is other for other in gone)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return len(gone) // 2


def split_products(model: ModelProto) -> int:
    """Replaces a product whose result is split into equal parts by one product for each part, in place; returns how
    many there were. The parts of weights, scales and biases are cut when a runtime loads the graph, and no result is
    copied. Queries, keys and values come of such a product."""
    makers = makers_of(model)
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    gone: set[str] = set()  # names of nodes that are replaced
    cuts: set[str] = set()  # of weights, scales and biases, which products of other tokens share
    instead: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        found = _product_behind(node.input[0], makers) if node.op_type == "Split" else None
        equal = not node.input[1:] or not node.input[1]
        if found is None or not equal or any(readers[part.output[0]] != 1 for part in found.nodes):
            continue
        width = _width(model, found)
        if width is not None:
            gone |= {part.name for part in found.nodes}
            instead[node.name] = _parts(found, list(node.output), width, cuts)
    if not instead:
        return 0
    nodes = [made for node in model.graph.node if node.name not in gone for made in instead.get(node.name, [node])]
    limits = {name for made in instead.values() for node in made if node.op_type == "Slice" for name in node.input[1:]}
    values = {name: int(name.rpartition(".")[2]) for name in limits}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array([value], np.int64), name) for name, value in sorted(values.items())
    )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(instead)


def _width(model: ModelProto, found: _Product) -> int | None:
    """How many outputs a product has; None where its matrix is computed."""
    return next((t.dims[1] for t in model.graph.initializer if t.name == found.product.input[1]), None)


def _parts(found: _Product, outputs: list[str], width: int, cuts: set[str]) -> list[NodeProto]:
    nodes: list[NodeProto] = []

    def cut(name: str, axis: int, part: int) -> str:
        limits = [part * width // len(outputs), (part + 1) * width // len(outputs), axis]
        sliced = f"{name}.part{part}"
        if sliced not in cuts:
            given = [name, *(f"slice.{value}" for value in limits)]
            nodes.append(helper.make_node("Slice", given, [sliced], name=sliced))
            cuts.add(sliced)
        return sliced

    for part, output in enumerate(outputs):
        matrix = cut(found.product.input[1], 1, part)
        scale = cut(found.scaled.input[1], 0, part)
        sums, floats, scaled = (f"{output}.{stage}" for stage in ("sums", "floats", "scaled"))
        last = output if found.added is None else scaled
        inputs = [found.product.input[0], matrix, *found.product.input[2:]]
        nodes.append(helper.make_node("MatMulInteger", inputs, [sums], name=f"{output}.product"))
        nodes.append(helper.make_node("Cast", [sums], [floats], name=f"{output}.cast", to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [floats, scale], [last], name=f"{output}.scale"))
        if found.added is not None:
            bias = cut(found.added.input[1], 0, part)
            nodes.append(helper.make_node("Add", [scaled, bias], [output], name=f"{output}.add"))
    return nodes


def scale_at_run_time(model: ModelProto, source: str) -> int:
    """Multiplies the scale behind every MatMulInteger by a 1 that is computed, in place; returns how many.

    ONNX Runtime's fusion into ``MatMulIntegerToFloat`` looks for a product of two scales that nothing else reads. A
    product of constants is folded before it looks, so one factor is made at run time: 1, found from the size of an
    input. Equal products would be made one, so that each that has the same scale has a 1 of its own.

    Args:
        source: an input of the graph whose shape is not known before it runs.
    """
    makers = makers_of(model)
    nodes: list[NodeProto] = []
    readers: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type == "Mul" and _product_behind(node.output[0], makers) is not None:
            scale, count = node.input[1], readers[node.input[1]]
            name = f"{scale}.{UNIT}{count}"
            nodes.append(helper.make_node("Mul", [f"{UNIT}{count}", scale], [name], name=f"node_{name}"))
            node.input[1] = name
            readers[scale] += 1
        nodes.append(node)
    if readers:
        first = [helper.make_node("Size", [source], [f"{UNIT}.size"], name=f"node_{UNIT}.size")]
        for count in range(max(readers.values())):
            unit = f"{UNIT}{count}"
            least = numpy_helper.from_array(np.array(-count, np.int64), f"{unit}.least")
            model.graph.initializer.append(least)
            above = helper.make_node("Greater", [f"{UNIT}.size", least.name], [f"{unit}.any"], name=f"node_{unit}.any")
            first += [
                above,
                helper.make_node("Cast", [f"{unit}.any"], [unit], name=f"node_{unit}", to=TensorProto.FLOAT),
            ]
        del model.graph.node[:]
        model.graph.node.extend([*first, *nodes])
    return readers.total()
