"""Processors without VNNI: no weight that ships can saturate, and the self-test would notice if one did."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from dfqsam.assets import shipped_bundle
from dfqsam.bundle import open_bundle
from dfqsam.runtime import Predictor, self_test
from dfqsam.runtime.selftest import SelfTest, make_self_test
from dfqsam.runtime.sessions import session
from tests.runtime.saturation import exact, matrices, saturating, saturating_product, unsafe_pairs
from tests.runtime.test_selftest import rewritten

codes = st.integers(-127, 127)


def product(matrix: np.ndarray) -> onnx.ModelProto:
    node = helper.make_node("MatMulInteger", ["image", "matrix"], ["y"])
    x = helper.make_tensor_value_info("image", TensorProto.UINT8, ["m", len(matrix)])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(matrix, "matrix")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_saturation_by_hand():
    a, b = np.array([[255, 255, 1]], np.uint8), np.array([[127], [127], [-3]], np.int8)
    assert saturating_product(a, b).tolist() == [[32767 - 3]]  # 64770 - 3 in exact sums
    assert unsafe_pairs(b).tolist() == [[0], [0]]
    assert unsafe_pairs(np.array([[127], [-127], [64], [64], [-65], [-64]], np.int8)).tolist() == [[2], [0]]


@given(arrays(np.int8, st.tuples(st.integers(2, 9), st.integers(1, 4)), elements=codes), st.integers(0, 99))
def test_the_rewritten_graph_computes_what_such_a_processor_does(matrix, seed):
    a = np.random.default_rng(seed).integers(0, 256, (5, len(matrix)), dtype=np.uint8)
    a[0] = 255
    model, count = saturating(product(matrix), {"y": matrix})
    found = session(model.SerializeToString(), 1).run(None, {"image": a})[0]
    assert np.array_equal(found, saturating_product(a, matrix))
    sums = a.astype(np.int32) @ matrix.astype(np.int32)
    assert count > 0 or np.array_equal(found, sums)
    whole = exact(product(matrix), {"y": matrix})
    assert np.array_equal(session(whole.SerializeToString(), 1).run(None, {"image": a})[0], sums)
    worst = (matrix.clip(min=0), matrix.clip(max=0))  # activations of 0 where the other sign is
    assert (count > 0) == any((saturating_product(a[:1], b) != a[:1].astype(int) @ b.astype(int)).any() for b in worst)


def reckless(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same weights on the finest grids that clip nothing, with no heed of pairs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    for codes, scale in scales(copy).items():
        stored, steps = numpy_helper.to_array(tensors[codes]), numpy_helper.to_array(tensors[scale])
        shape = (1, -1) if stored.ndim == 2 else (-1, 1, 1, 1)
        others = 0 if stored.ndim == 2 else (1, 2, 3)
        whole = stored * steps.reshape(shape)
        finer = (np.abs(whole).max(others) / 127).astype(np.float32)
        again = np.rint(whole / finer.reshape(shape)).astype(np.int8)
        tensors[codes].CopyFrom(numpy_helper.from_array(again, codes))
        tensors[scale].CopyFrom(numpy_helper.from_array(finer, scale))
    return copy


def scales(model: onnx.ModelProto) -> dict[str, str]:
    """For the codes of every product the initializer that its sums are multiplied by."""
    makers = {name: node for node in model.graph.node for name in node.output}
    readers = {name: node for node in model.graph.node for name in node.input}

    def source(name: str) -> str:
        while name in makers:
            name = makers[name].input[1 if is_unit(makers[name].input[0]) else 0]
        return name

    def is_unit(name: str) -> bool:
        """Whether it is the 1 that is made when a graph runs (dfqsam.export.products.scale_at_run_time)."""
        made = makers.get(name)
        return made is not None and made.op_type == "Cast" and makers[made.input[0]].op_type == "Greater"

    found = {}
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            scaled = readers[readers[node.output[0]].output[0]]
            assert scaled.op_type == "Mul"
            found[source(node.input[1])] = source(scaled.input[1])
    return found


@pytest.fixture(scope="module")
def encoder() -> onnx.ModelProto:
    return onnx.load_model_from_string(open_bundle(shipped_bundle()).read("encoder.onnx"))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    test = SelfTest.of(open_bundle(shipped_bundle()))
    assert test is not None
    return test.picture


def test_no_product_of_the_shipped_encoder_can_saturate(encoder, picture):
    by = matrices(encoder, picture)
    assert len(by) > 60  # queries, keys and values each have one
    assert {name: places.shape[1] for name, b in by.items() if (places := unsafe_pairs(b)).size} == {}


@pytest.mark.slow
def test_the_self_test_refuses_a_processor_that_saturates(encoder, picture, tmp_path):
    """A bundle made with no heed of pairs, with its own self-test, on a processor with VNNI and on one without."""
    careless = reckless(encoder)
    by = matrices(careless, picture)
    broken, count = saturating(careless, by)
    assert count > 1000
    data = exact(careless, by).SerializeToString()
    test = make_self_test(rewritten(tmp_path / "draft", encoder__onnx=data), picture).to_bytes()
    reports = {}
    for name, model in (("with", data), ("without", broken.SerializeToString())):
        bundle = rewritten(tmp_path / name, encoder__onnx=model, selftest__npz=test)
        reports[name] = self_test(Predictor(bundle))
    assert reports["with"].passed
    assert not reports["without"].passed
