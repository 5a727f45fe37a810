"""The size-only profile: MatMulNBits with weights in blocks, activations in floating point."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from dfqsam.config import BLOCKS, QuantConfig
from dfqsam.errors import ParityError
from dfqsam.export.census import census, kernels, require_kernels
from dfqsam.export.contrib import matmul_nbits
from dfqsam.export.graphs import EncoderGraph
from dfqsam.export.parity import encoder_parity, require_parity
from dfqsam.export.trace import export_encoder
from dfqsam.quant.block_linear import BlockLinear
from dfqsam.quant.encoder import quantize_encoder, quantized_layers
from dfqsam.quant.layers import require_on_grid
from tests.export.test_encoder import normalise
from tests.small import tiny_encoder


def exported(block: int) -> tuple[EncoderGraph, onnx.ModelProto]:
    encoder = tiny_encoder()
    names = quantize_encoder(encoder, encoder.sites(), [], 0, replace(QuantConfig.of("w4-only"), block=block))
    assert names == list(quantized_layers(encoder))
    require_on_grid(encoder)
    graph = EncoderGraph(encoder, normalise)
    return graph, export_encoder(graph, 64)


@pytest.fixture(scope="module")
def quantized() -> tuple[EncoderGraph, onnx.ModelProto]:
    return exported(32)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)


def test_the_graph_computes_what_the_model_does_to_the_end(quantized, picture):
    graph, model = quantized
    parity = encoder_parity(model, graph, picture)
    assert set(parity.stretches) == {*quantized_layers(graph.encoder), "embedding"}
    assert parity.worst[1] < 1e-5
    assert parity.end_to_end < 1e-5  # nothing is rounded on the way: no chaos


def test_every_matrix_runs_on_four_bits_and_no_activation_is_rounded(quantized):
    graph, model = quantized
    found, counts = kernels(model.SerializeToString()), census(model.SerializeToString())
    names = list(quantized_layers(graph.encoder))
    assert names
    assert found == dict.fromkeys(names, "MatMulNBits")
    require_kernels(found, names, 32)
    assert not {"QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "BiasGelu", "MatMul"} & set(counts)
    nodes = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    attributes = [{a.name: a.i for a in node.attribute} for node in nodes]
    assert {(a["bits"], a["block_size"], a["accuracy_level"]) for a in attributes} == {(4, 32, 1)}
    with pytest.raises(ParityError, match=f"{len(names)} of {len(names)} quantized layers run in floating point"):
        require_kernels(found, names, None)
    with pytest.raises(ParityError, match=f"1 of {len(names)} layers do not run on 4-bit weights here: {names[0]}"):
        require_kernels({**found, names[0]: "MatMul"}, names, 32)


def test_parity_sees_a_single_wrong_code(quantized, picture):
    graph, model = quantized
    layer = graph.encoder.get_submodule("layers.2.blocks.0.attn.proj")
    assert isinstance(layer, BlockLinear)
    layer.codes[0, 0, 0] ^= 0x04
    try:
        parity = encoder_parity(model, graph, picture)
    finally:
        layer.codes[0, 0, 0] ^= 0x04
    with pytest.raises(ParityError, match="differs from the model at layers"):
        require_parity(parity, dice=1.0)


def test_the_file_holds_codes_once_scales_as_halves_and_the_large_kernel_in_eight_bits(quantized):
    graph, model = quantized
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for name, layer in quantized_layers(graph.encoder).items():
        assert kinds[f"encoder.{name}.codes"] == TensorProto.UINT8
        stored = f"encoder.{name}.scale.half" if layer.scale.numel() >= 256 else f"encoder.{name}.scale"
        assert stored in kinds
    assert kinds["encoder.neck.2.weight.int8"] == TensorProto.INT8
    named = [t for t in model.graph.initializer if t.name.startswith("encoder.")]
    floats = [t.name for t in named if t.data_type == TensorProto.FLOAT and np.prod(t.dims) >= 512]
    assert floats == []
    assert {o.domain: o.version for o in model.opset_import} == {"": 23, "com.microsoft": 1}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("inputs", [64, 160])  # 160 ends in the middle of a block of 64 or 128
@pytest.mark.parametrize("rows", [1, 300])  # one row and many take kernels of their own
def test_the_kernel_computes_with_exactly_the_weights_that_are_stored(block, inputs, rows):
    torch.manual_seed(0)
    layer = BlockLinear.of(torch.nn.Linear(inputs, 48).requires_grad_(False), block)
    weights = {"codes": layer.codes, "scale": layer.scale, "bias": layer.bias.reshape(-1)}
    sizes = {"K": inputs, "N": 48, "bits": 4, "block_size": block, "accuracy_level": 1}
    names = ["x", "codes", "scale", "", "", "bias"]
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", **sizes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, inputs])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 48])
    made = [numpy_helper.from_array(value.numpy(), name) for name, value in weights.items()]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], made), opset_imports=opsets, ir_version=10)
    values = torch.randn(rows, inputs)
    values[:, 3] *= 100  # what a kernel that rounds activations would lose
    expected = values.double() @ layer.weights()[0].T.double() + layer.bias.reshape(-1)
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(None, {"x": values.numpy()})[0]
        assert np.linalg.norm(found - expected.numpy()) < 1e-6 * np.linalg.norm(expected.numpy())


def test_the_description_for_the_exporter_is_that_of_the_operator():
    schema = matmul_nbits.op_schema
    assert (schema.domain, schema.name, schema.since_version) == ("com.microsoft", "MatMulNBits", 1)
    assert [parameter.name for parameter in schema.inputs] == ["A", "B", "scales", "zero_points", "g_idx", "bias"]
