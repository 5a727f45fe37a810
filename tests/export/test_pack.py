import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from dfqsam.export.pack import pack_int4, pack_weights, shorten_names, store_halves, store_rounded
from dfqsam.quant.rounding import round_to_grid


@given(arrays(np.int8, st.tuples(st.integers(1, 6), st.integers(1, 7)), elements=st.integers(-8, 7)))
def test_packed_codes_read_back_by_onnx(codes):
    tensor = TensorProto(data_type=TensorProto.INT4, dims=codes.shape, raw_data=pack_int4(codes))
    assert np.array_equal(numpy_helper.to_array(tensor).astype(np.int8), codes)


def model_of(nodes, initializers, inputs, outputs) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(model, **feeds):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def test_only_codes_that_fit_four_bits_are_packed_and_the_graph_computes_the_same():
    rng = np.random.default_rng(0)
    small = rng.integers(-7, 8, (6, 4)).astype(np.int8)
    large = rng.integers(-100, 100, (4, 5)).astype(np.int8)
    nodes = [
        helper.make_node("Cast", ["a"], ["af"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["b"], ["bf"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "af"], ["h"]),
        helper.make_node("MatMul", ["h", "bf"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])
    model = model_of(nodes, [numpy_helper.from_array(small, "a"), numpy_helper.from_array(large, "b")], [x], [y])
    value = rng.standard_normal((2, 6)).astype(np.float32)
    before = run(model, x=value)
    assert pack_weights(model) == 1
    assert {t.data_type for t in model.graph.initializer} == {TensorProto.INT4, TensorProto.INT8}
    assert np.array_equal(run(model, x=value), before)


def test_rounded_floats_are_stored_as_bytes_and_others_stay():
    import torch

    torch.manual_seed(0)
    rounded = round_to_grid(torch.randn(64, 48), 0).numpy()
    free = np.random.default_rng(0).standard_normal((48, 64)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 64])
    model = model_of(nodes, [numpy_helper.from_array(rounded, "a"), numpy_helper.from_array(free, "b")], [x], [y])
    value = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    before, size = run(model, x=value), model.ByteSize()
    assert store_rounded(model) == 1
    assert model.ByteSize() < size - 2 * rounded.size
    np.testing.assert_allclose(run(model, x=value), before, rtol=1e-5, atol=1e-5)


def test_floats_that_half_precision_holds_are_stored_so_and_the_graph_computes_the_same():
    rng = np.random.default_rng(0)
    halves = rng.standard_normal((64, 48)).astype(np.float16).astype(np.float32)
    free = rng.standard_normal((48, 64)).astype(np.float32)
    large = halves.T.copy()
    large[0, 0] = 1e6
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("MatMul", ["h", "b"], ["g"]),
        helper.make_node("MatMul", ["g", "a"], ["k"]),
        helper.make_node("MatMul", ["k", "c"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 64])
    weights = {"a": halves, "b": free, "c": large}
    model = model_of(nodes, [numpy_helper.from_array(v, k) for k, v in weights.items()], [x], [y])
    value = rng.standard_normal((2, 64)).astype(np.float32)
    before, size = run(model, x=value), model.ByteSize()
    assert store_halves(model) == 1
    assert model.ByteSize() < size - 1.9 * halves.size
    assert np.array_equal(run(model, x=value), before)


def wordy() -> onnx.ModelProto:
    """y = (x + 2) * 2 + weight, with long names."""
    nodes = [
        helper.make_node("Add", ["x", "the_first_constant"], ["what_the_first_sum_gives"], name="the_first_sum"),
        helper.make_node("Mul", ["what_the_first_sum_gives", "the_second_constant"], ["encoder.layer.matrix"]),
        helper.make_node("Add", ["encoder.layer.matrix", "encoder.layer.weight"], ["y"], name="the_last_sum"),
    ]
    names = ("the_first_constant", "the_second_constant", "encoder.layer.weight", "encoder.other.weight")
    constants = [numpy_helper.from_array(np.float32([2]), name) for name in names]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


def test_names_are_short_where_nothing_is_looked_up_by_them():
    model = wordy()
    shorten_names(model)
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    assert names == {"x", "y", "encoder.layer.matrix", "encoder.layer.weight", "_0", "_1", "_2"}
    assert {t.name for t in model.graph.initializer} == {"_0", "_1", "encoder.layer.weight", "encoder.other.weight"}
    assert [node.name for node in model.graph.node] == [node.output[0] for node in model.graph.node]
    onnx.checker.check_model(model)
    for same in (wordy(), model):
        session = ort.InferenceSession(same.SerializeToString(), providers=["CPUExecutionProvider"])
        assert session.run(None, {"x": np.float32([3])})[0] == 12
