"""What an ONNX file may hold, checked before ONNX Runtime sees a byte of it.

A graph of a bundle is one flat list of known operators with all its weights inside. Everything else that the format
knows (files beside it, graphs inside graphs, functions, training, operators of other libraries, shapes that claim more
than is there) is refused, and so is every field that is not in :mod:`dfqsam.bundle.onnx_fields`. Nothing is unpacked or
copied: the file is walked where it lies.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

from dfqsam.bundle.onnx_fields import (
    ATTRIBUTE,
    DIMENSION,
    GRAPH,
    MODEL,
    NODE,
    NUMBERS,
    OPSET,
    PAIR,
    SHAPE,
    TENSOR,
    TENSOR_TYPE,
    TYPE,
    VALUE,
)
from dfqsam.bundle.operators import DOMAINS
from dfqsam.bundle.wire import Message, count, numbers, read, text
from dfqsam.errors import BundleError

MAX_DIMENSIONS = 8
MAX_VALUES = (1 << 31) - 1  # of a tensor, as ONNX Runtime counts some of them in 32 bits
MAX_NODES = 100_000
# Bits a value, by ONNX's numbers of data types; texts and complex numbers are not among them.
BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16}
BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4}


@dataclass(frozen=True)
class Contents:
    """What was found in a graph that may be loaded: how many nodes, and how many bytes its weights take."""

    nodes: int
    weights: int


def check_file(path: str | bytes, name: str) -> Contents:
    """:func:`check_graph` of the file at ``path``, read in place, or of the bytes themselves.

    Args:
        name: what an error calls it.

    Raises:
        BundleError: as :func:`check_graph`.
    """
    if isinstance(path, bytes):
        return check_graph(path, name)
    with open(path, "rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # there is nothing to map
            raise BundleError(f"{name} is refused: it is empty; make the bundle again.") from error
        with mapped:
            return check_graph(mapped, name)


def check_graph(data: bytes | mmap.mmap, name: str) -> Contents:
    """Lets an ONNX model through that holds nothing but what this module's text allows.

    Raises:
        BundleError: one sentence, for the first thing that may not be there.
    """
    problem = None
    with memoryview(data) as view:
        try:
            return _model(view)
        except BundleError as error:
            problem = str(error)  # without its traceback, which holds views of the file
    raise BundleError(f"{name} is refused: {problem}; nothing of it was loaded, get the bundle from its maker again.")


def _model(data: memoryview) -> Contents:
    model = read(data, MODEL, "the model")
    if "functions" in model:
        raise BundleError("the model brings functions of its own")
    if "training_info" in model:
        raise BundleError("the model brings instructions for training")
    _pairs(model, "the model")
    for imported in model.get("opset_import", []):
        domain = text(read(imported, OPSET, "an opset"), "domain")
        if domain not in DOMAINS:
            raise BundleError(f"the model uses operators of {domain[:80]!r}")
    if "graph" not in model:
        raise BundleError("the model holds no graph")
    graph = read(model["graph"][0], GRAPH, "the graph")
    if "sparse_initializer" in graph:
        raise BundleError("the graph holds sparse weights")
    _pairs(graph, "the graph")
    nodes = graph.get("node", [])
    if len(nodes) > MAX_NODES:
        raise BundleError(f"the graph has {len(nodes)} nodes, more than {MAX_NODES}")
    weights = sum(_tensor(tensor) for tensor in graph.get("initializer", []))
    for part in ("input", "output", "value_info"):
        for value in graph.get(part, []):
            _value(value)
    for node in nodes:
        weights += _node(node)
    return Contents(len(nodes), weights)


def _pairs(message: Message, what: str) -> None:
    for pair in message.get("metadata_props", []):
        read(pair, PAIR, f"metadata of {what}")


def _node(data: memoryview) -> int:
    """Checks a node; how many bytes the tensors in its attributes take."""
    node = read(data, NODE, "a node")
    kind, domain = text(node, "op_type"), text(node, "domain")
    where = f"the node {text(node, 'name')[:80]!r} ({kind[:80]!r})"
    if kind not in DOMAINS.get(domain, ()):
        raise BundleError(f"{where} is an operator{f' of {domain[:80]!r}' if domain else ''} that no bundle needs")
    if text(node, "overload"):
        raise BundleError(f"{where} calls a function")
    _pairs(node, "a node")
    for names in ("input", "output"):  # what is no text, readers fail at, each in its own way
        text(node, names)
    taken = 0
    for one in node.get("attribute", []):
        attribute = read(one, ATTRIBUTE, "an attribute")
        if "g" in attribute or "graphs" in attribute:
            raise BundleError(f"{where} holds a graph of its own")
        if "ref_attr_name" in attribute:
            raise BundleError(f"{where} belongs into a function")
        taken += sum(_tensor(tensor) for tensor in attribute.get("t", []))
    return taken


def _tensor(data: memoryview) -> int:
    """Checks that a tensor holds exactly the values that its shape claims; how many bytes they take."""
    tensor = read(data, TENSOR, "a tensor")
    where = f"the tensor {text(tensor, 'name')[:80]!r}"
    if "external_data" in tensor or any(tensor.get("data_location", [])):
        raise BundleError(f"{where} lies in another file")
    _pairs(tensor, "a tensor")
    bits = BITS.get(tensor.get("data_type", [0])[0])
    if bits is None:
        raise BundleError(f"{where} has a type that is not for weights")
    values = _product(numbers(tensor.get("dims", [])), where)
    given = [name for name in NUMBERS if name in tensor] + (["raw_data"] if "raw_data" in tensor else [])
    if len(given) > 1:
        raise BundleError(f"{where} holds its values twice")
    if not given:
        if values:
            raise BundleError(f"{where} claims {values} values and holds none")
        return 0
    taken = (values * bits + 7) // 8
    if given == ["raw_data"]:
        found, wanted = len(tensor["raw_data"][0]), taken
    else:
        found = count(tensor[given[0]], NUMBERS[given[0]])
        wanted = (values + 1) // 2 if bits == 4 else values  # 4-bit values come two a number
    if found != wanted:
        raise BundleError(f"{where} claims {values} values and does not hold exactly these")
    return taken


def _product(dims: list[int], where: str) -> int:
    if len(dims) > MAX_DIMENSIONS:
        raise BundleError(f"{where} has {len(dims)} dimensions, more than {MAX_DIMENSIONS}")
    product = 1
    for length in dims:
        if not 0 <= length <= MAX_VALUES:
            raise BundleError(f"{where} has a side of {length}")
        product *= length
    if product > MAX_VALUES:
        raise BundleError(f"{where} claims {product} values, more than {MAX_VALUES}")
    return product


def _value(data: memoryview) -> None:
    """Checks the type of an input, an output or a value between: a tensor of a shape that can be."""
    value = read(data, VALUE, "a value")
    where = f"the value {text(value, 'name')[:80]!r}"
    _pairs(value, "a value")
    for kind in value.get("type", []):
        for tensor in read(kind, TYPE, f"the type of {where}").get("tensor_type", []):
            for shape in read(tensor, TENSOR_TYPE, f"the type of {where}").get("shape", []):
                dims = [read(dim, DIMENSION, "a dimension") for dim in read(shape, SHAPE, "a shape").get("dim", [])]
                for dim in dims:
                    text(dim, "dim_param")
                _product([numbers(dim["dim_value"])[0] for dim in dims if "dim_value" in dim], where)
