import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from dfqsam.export.census import census
from dfqsam.export.scales import scale_at_run_time


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
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, "rows", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, "rows", 5])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)

    def run(value):
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {"x": value})[0]

    value = rng.standard_normal((2, 4, 6)).astype(np.float32)
    before = run(value)
    assert census(model.SerializeToString())["MatMulInteger"] == 1
    assert scale_at_run_time(model) == 1
    counts = census(model.SerializeToString())
    assert counts["MatMulIntegerToFloat"] == 1
    assert counts["MatMulInteger"] == counts["Add"] == 0
    np.testing.assert_allclose(run(value), before, rtol=1e-5, atol=1e-6)
    codes = np.clip(np.rint(value / 0.05) + 3, 0, 255) - 3
    wanted = codes @ constants["codes"] * constants["scale"] + constants["bias"]
    np.testing.assert_allclose(run(value), wanted, rtol=1e-4, atol=1e-4)
