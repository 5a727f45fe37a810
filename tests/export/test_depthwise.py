"""Depthwise convolutions with a scale a channel: exact integer sums, in lockstep, with nothing left in float."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from dfqsam.config import QuantConfig
from dfqsam.errors import ParityError
from dfqsam.export.census import census, kernels, require_integer_kernels
from dfqsam.export.graphs import EncoderGraph
from dfqsam.export.parity import encoder_parity, tapped
from dfqsam.export.trace import export_encoder
from dfqsam.quant.depthwise import depthwise_layers
from dfqsam.quant.encoder import quantize_encoder, quantized_layers
from dfqsam.quant.layers import require_on_grid
from tests.small import tiny_encoder


def normalise(images: torch.Tensor) -> torch.Tensor:
    images = images / images.amax((1, 2, 3), keepdim=True).clamp_min(1e-8)
    return F.pad(images, (0, 64 - images.shape[3], 0, 64 - images.shape[2]))


@pytest.fixture(scope="module", params=["w8a8", "w4a4"])
def whole(request):
    """Every Linear and convolution quantized, stage 0 and the patch embedding included."""
    encoder = tiny_encoder()
    config = replace(QuantConfig.of(request.param), depthwise="integer", keep=())
    images = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))]
    quantize_encoder(encoder, encoder.sites(), images, 1, config)
    require_on_grid(encoder)
    graph = EncoderGraph(encoder, normalise)
    return graph, export_encoder(graph, 64)


def test_the_graph_follows_the_model_in_lockstep(whole):
    graph, model = whole
    picture = np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)
    parity = encoder_parity(model, graph, picture)
    assert set(parity.stretches) == {*quantized_layers(graph.encoder), "embedding"}
    assert parity.worst[1] < 1e-5


def test_every_layer_runs_on_an_integer_kernel(whole):
    graph, model = whole
    data = model.SerializeToString()
    depthwise = list(depthwise_layers(graph.encoder).values())
    assert len(depthwise) == 7
    assert {layer.stride for layer in depthwise} == {1, 2}
    require_integer_kernels(kernels(data), list(quantized_layers(graph.encoder)))
    assert census(data)["ConvInteger"] == len(depthwise)


def test_parity_notices_inputs_that_are_not_rescaled(whole):
    graph, model = whole
    name = "layers.0.blocks.0.conv2"
    layer = graph.encoder.get_submodule(name)
    parts = {"divisor": "Div"} if layer.center is None else {"divisor": "Div", "center": "Sub"}
    for part, kind in parts.items():
        broken = type(model)()
        broken.CopyFrom(model)
        (node,) = [node for node in broken.graph.node if f"encoder.{name}.{part}" in node.input]
        assert node.op_type == kind
        node.input[1] = "somewhere"
        broken.graph.node.add(op_type="Identity", input=[f"encoder.{name}.{part}"], output=["somewhere"])
        with pytest.raises(ParityError, match="does not rescale"):
            tapped(broken, [name])


@pytest.mark.parametrize("stride", [1, 2])
def test_sums_are_exact_in_onnx_runtime_for_the_worst_codes(stride):
    codes = np.full((16, 1, 3, 3), 127, np.int8)
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], group=16, pads=[1] * 4, strides=[stride] * 2)
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 16, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    constants = [numpy_helper.from_array(codes, "w"), numpy_helper.from_array(np.array(0, np.uint8), "z")]
    graph = helper.make_graph([node], "g", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.full((1, 16, 8, 8), 255, np.uint8)})[0]
    assert (found[:, :, 1:-1, 1:-1] == 9 * 255 * 127).all()
    assert (found[:, :, 0, 0] == 4 * 255 * 127).all()
