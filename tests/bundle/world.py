"""Signed bundles of two tiny graphs, and ONNX files that no bundle may hold."""

from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, StringStringEntryProto, TensorProto, helper, numpy_helper

from dfqsam.bundle import Bundle
from dfqsam.bundle.keys import make_keys
from dfqsam.bundle.sign import Signer, sign_bundle
from tests.evaluate.world import toy_bundle


def signed(folder: Path, name: str = "bundle", key: str = "hospital") -> Bundle:
    """``folder/name``, signed by the key ``folder/key``, which is made where it is not there yet."""
    if not (folder / key).exists():
        make_keys(folder / key)
    toy_bundle(folder / name, 0, full=False)
    return sign_bundle(folder / name, Signer(folder / key))


def graph_of(nodes, initializers, **more) -> ModelProto:
    """A model that takes x and gives y, both of 4 floats."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)], **more)


def harmless() -> ModelProto:
    """y = x + w."""
    return graph_of(
        [helper.make_node("Add", ["x", "w"], ["y"])], [numpy_helper.from_array(np.ones(4, np.float32), "w")]
    )


def outside(location: str, **more: str) -> bytes:
    """Weights that lie in another file."""
    model = harmless()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "16", **more}.items():
        tensor.external_data.append(StringStringEntryProto(key=key, value=value))
    return model.SerializeToString()


def operator(kind: str, domain: str = "") -> bytes:
    model = harmless()
    model.graph.node[0].op_type, model.graph.node[0].domain = kind, domain
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model.SerializeToString()


def branching() -> bytes:
    """An If, whose branches are graphs of their own."""
    y = helper.make_tensor_value_info("b", TensorProto.FLOAT, [4])
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "branch", [], [y])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return graph_of([node], [numpy_helper.from_array(np.array(True), "c")]).SerializeToString()


def hidden_graph() -> bytes:
    """A graph as an attribute of an operator that takes none."""
    model = harmless()
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node[0].attribute.append(AttributeProto(name="body", type=AttributeProto.GRAPH, g=inner))
    return model.SerializeToString()


def claiming(*dims: int) -> bytes:
    """Weights that claim a shape and bring four values."""
    model = harmless()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    return model.SerializeToString()


def with_function() -> bytes:
    inner = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [])
    model = graph_of([helper.make_node("Add", ["x", "x"], ["y"])], [], functions=[inner])
    return model.SerializeToString()


def typed(change) -> bytes:
    model = harmless()
    change(model)
    return model.SerializeToString()


# The eight of the threat model first; what each is refused for.
MALICIOUS = {
    "parent folder": (outside("../../../etc/passwd"), "lies in another file"),
    "absolute path": (outside("/etc/passwd"), "lies in another file"),
    "symbolic link": (outside("link.bin"), "lies in another file"),
    "hard link": (outside("selftest.npz"), "lies in another file"),
    "injected attribute": (outside("w.bin", __class__="x", basepath="/"), "lies in another file"),
    "unknown operator": (operator("Exec"), "is an operator that no bundle needs"),
    "graph in a graph": (branching(), "is an operator that no bundle needs"),
    "claims 4 TB": (claiming(1 << 20, 1 << 20), "claims 1099511627776 values"),
    "foreign domain": (operator("Add", "evil.example"), "uses operators of 'evil.example'"),
    "graph as an attribute": (hidden_graph(), "holds a graph of its own"),
    "function": (with_function(), "brings functions of its own"),
    "negative side": (claiming(-4), "has a side of -4"),
    "more than it holds": (claiming(5), "does not hold exactly these"),
    "less than it holds": (claiming(3), "does not hold exactly these"),
    "nine dimensions": (claiming(*[1] * 8, 4), "has 9 dimensions"),
    "values twice": (typed(lambda m: m.graph.initializer[0].float_data.extend([1, 2, 3, 4])), "holds its values twice"),
    "texts": (
        typed(lambda m: m.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"rm"]))),
        "field 6",
    ),
    "training": (typed(lambda m: m.training_info.add()), "instructions for training"),
    "sparse weights": (typed(lambda m: m.graph.sparse_initializer.add()), "sparse weights"),
    "attribute of a function": (
        typed(lambda m: m.graph.node[0].attribute.append(AttributeProto(name="a", ref_attr_name="b"))),
        "belongs into a function",
    ),
    "overload": (typed(lambda m: setattr(m.graph.node[0], "overload", "f")), "calls a function"),
    "absurd input": (
        typed(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1 << 40)),
        "has a side of 1099511627776",
    ),
    "sequence": (
        typed(lambda m: m.graph.value_info.add().type.sequence_type.elem_type.tensor_type.SetInParent()),
        "field 4",
    ),
    "two graphs": (harmless().SerializeToString() + onnx.ModelProto(graph=harmless().graph).SerializeToString(), "two"),
    "unknown field": (harmless().SerializeToString() + b"\xfa\x01\x00", "field 31"),
    "no graph": (onnx.ModelProto(ir_version=10).SerializeToString(), "holds no graph"),
    "cut short": (harmless().SerializeToString()[:-3], "longer than what holds it"),
}
