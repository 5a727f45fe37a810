import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from dfqsam.export.census import census
from dfqsam.export.products import scale_at_run_time, split_products, write_matrices


def model_of(nodes, constants, **ends) -> onnx.ModelProto:
    """A graph from the first of ``ends`` (name: type and shape) to the last."""
    source, result = (helper.make_tensor_value_info(name, *kind) for name, kind in ends.items())
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [source], [result], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


def run(model, value, name="x"):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value})[0]


def test_a_product_takes_its_bias_in_and_computes_the_same():
    rng = np.random.default_rng(0)
    constants = {
        "step": np.float32(0.05),
        "zero": np.uint8(3),
        "codes": rng.integers(-7, 8, (6, 5)).astype(np.int8),
        "scale": rng.uniform(-0.1, 0.1, 5).astype(np.float32),
        "bias": rng.standard_normal(5).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("MatMulInteger", ["q", "codes", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["y"]),
    ]
    model = model_of(nodes, constants, x=(TensorProto.FLOAT, [2, "rows", 6]), y=(TensorProto.FLOAT, [2, "rows", 5]))
    value = rng.standard_normal((2, 4, 6)).astype(np.float32)
    before = run(model, value)
    assert census(model.SerializeToString())["MatMulInteger"] == 1
    assert scale_at_run_time(model, "x") == 1
    counts = census(model.SerializeToString())
    assert counts["MatMulIntegerToFloat"] == 1
    assert counts["MatMulInteger"] == counts["Add"] == 0
    np.testing.assert_allclose(run(model, value), before, rtol=1e-5, atol=1e-6)
    codes = np.clip(np.rint(value / 0.05) + 3, 0, 255) - 3
    wanted = codes @ constants["codes"] * constants["scale"] + constants["bias"]
    np.testing.assert_allclose(run(model, value), wanted, rtol=1e-4, atol=1e-4)


def test_a_product_that_is_split_becomes_one_for_each_part():
    rng = np.random.default_rng(1)
    constants = {
        "step": np.float32(0.05),
        "zero": np.uint8(3),
        "codes": rng.integers(-100, 100, (6, 4)).astype(np.int8),
        "scale": rng.uniform(0.1, 0.2, 4).astype(np.float32),
        "bias": rng.standard_normal(4).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("MatMulInteger", ["q", "codes", "zero"], ["sums"], name="product"),
        helper.make_node("Cast", ["sums"], ["floats"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"], name="mul"),
        helper.make_node("Add", ["scaled", "bias"], ["all"], name="add"),
        helper.make_node("Split", ["all"], ["left", "right"], name="split", axis=-1, num_outputs=2),
        helper.make_node("Sub", ["left", "right"], ["y"], name="sub"),
    ]
    model = model_of(nodes, constants, x=(TensorProto.FLOAT, ["rows", 6]), y=(TensorProto.FLOAT, ["rows", 2]))
    value = rng.standard_normal((5, 6)).astype(np.float32)
    before = run(model, value)
    assert split_products(model) == 1
    np.testing.assert_allclose(run(model, value), before, rtol=1e-5, atol=1e-5)
    assert scale_at_run_time(model, "x") == 2
    np.testing.assert_allclose(run(model, value), before, rtol=1e-5, atol=1e-5)
    counts = census(model.SerializeToString())
    assert counts["MatMulIntegerToFloat"] == 2
    assert counts["Split"] == counts["Slice"] == counts["Add"] == 0
    assert split_products(model) == 0


def test_products_of_several_lots_of_rows_share_their_weights_and_are_fused_each():
    rng = np.random.default_rng(2)
    constants = {
        "zero": np.uint8(3),
        "codes": rng.integers(-100, 100, (6, 4)).astype(np.int8),
        "scale": rng.uniform(0.1, 0.2, 4).astype(np.float32),
        "bias": rng.standard_normal(4).astype(np.float32),
        "first": np.array([0, 2]),
        "others": np.array([3, 1]),
    }
    nodes = []
    for lot in ("first", "others"):
        nodes += [
            helper.make_node("Gather", ["x", lot], [f"{lot}.q"], name=f"{lot}.gather"),
            helper.make_node("MatMulInteger", [f"{lot}.q", "codes", "zero"], [f"{lot}.sums"], name=f"{lot}.product"),
            helper.make_node("Cast", [f"{lot}.sums"], [f"{lot}.floats"], name=f"{lot}.cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{lot}.floats", "scale"], [f"{lot}.scaled"], name=f"{lot}.mul"),
            helper.make_node("Add", [f"{lot}.scaled", "bias"], [f"{lot}.all"], name=f"{lot}.add"),
            helper.make_node(
                "Split", [f"{lot}.all"], [f"{lot}.l", f"{lot}.r"], name=f"{lot}.split", axis=-1, num_outputs=2
            ),
            helper.make_node("Sub", [f"{lot}.l", f"{lot}.r"], [f"{lot}.y"], name=f"{lot}.sub"),
        ]
    nodes.append(helper.make_node("Mul", ["first.y", "others.y"], ["y"], name="both"))
    model = model_of(nodes, constants, x=(TensorProto.UINT8, ["rows", 6]), y=(TensorProto.FLOAT, [2, 2]))
    value = rng.integers(0, 255, (4, 6)).astype(np.uint8)
    before = run(model, value)
    assert split_products(model) == 2
    assert [node.op_type for node in model.graph.node].count("Slice") == 2 * 3  # of codes, scales and biases
    assert scale_at_run_time(model, "x") == 4
    np.testing.assert_allclose(run(model, value), before, rtol=1e-5, atol=1e-4)
    counts = census(model.SerializeToString())
    assert counts["MatMulIntegerToFloat"] == 4
    assert counts["MatMulInteger"] == counts["Split"] == 0


def test_a_kernel_is_stored_as_the_matrix_that_it_is_multiplied_as():
    nodes = [
        helper.make_node("Transpose", ["codes"], ["t"], perm=[2, 3, 1, 0]),
        helper.make_node("Reshape", ["t", "order"], ["r"]),
        helper.make_node("MatMulInteger", ["q", "r"], ["y"]),
    ]
    codes = np.arange(2 * 3 * 2 * 2, dtype=np.int8).reshape(2, 3, 2, 2)
    constants = {"codes": codes, "order": np.array([-1, 2], np.int64)}
    model = model_of(nodes, constants, q=(TensorProto.UINT8, [1, 12]), y=(TensorProto.INT32, [1, 2]))
    value = np.arange(12, dtype=np.uint8)[None]
    before = run(model, value, "q")
    assert write_matrices(model) == 1
    assert [(node.op_type, *node.input) for node in model.graph.node] == [("MatMulInteger", "q", "codes")]
    assert np.array_equal(run(model, value, "q"), before)
    assert before[0, 1] == sum(
        value[0, 3 * place + i] * codes[1, i].flat[place] for place in range(4) for i in range(3)
    )
    assert write_matrices(model) == 0
