import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto

from dfqsam.config import QuantConfig
from dfqsam.errors import ParityError
from dfqsam.export.census import census, kernels, require_integer_kernels
from dfqsam.export.graphs import EncoderGraph
from dfqsam.export.parity import encoder_parity, open_session, relative_error, require_parity, tapped
from dfqsam.export.trace import export_encoder
from dfqsam.quant.encoder import quantize_encoder
from tests.small import tiny_encoder


def normalise(images: torch.Tensor) -> torch.Tensor:
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    images = (images - low) / (high - low).clamp_min(1e-8)
    return F.pad(images, (0, 64 - images.shape[3], 0, 64 - images.shape[2]))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)


def exported(profile: str | None) -> tuple[EncoderGraph, onnx.ModelProto]:
    encoder = tiny_encoder()
    if profile:
        calibration = [torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))]
        quantize_encoder(encoder, encoder.sites(), calibration, 1, QuantConfig.of(profile))
    graph = EncoderGraph(encoder, normalise)
    return graph, export_encoder(graph, 64)


@pytest.fixture(scope="module", params=["w8a8", "w4a4"])
def quantized(request) -> tuple[EncoderGraph, onnx.ModelProto]:
    return exported(request.param)


def test_full_precision_graph_equals_the_model_for_every_shape(picture):
    graph, model = exported(None)
    session = open_session(model)
    for shape in ((64, 40), (17, 64), (64, 64), (1, 64)):
        image = picture[: shape[0], :1].repeat(shape[1], 1).copy()
        image[:, ::2] //= 2
        out = session.run(None, {"image": image})[0]
        assert out.shape == (1, 256, 16, 16)
        assert relative_error(out, graph(torch.from_numpy(image)).numpy()) < 1e-5


def test_a_blank_picture_gives_finite_values():
    _, model = exported(None)
    out = open_session(model).run(None, {"image": np.full((64, 64, 3), 7, np.uint8)})[0]
    assert np.isfinite(out).all()


def test_quantized_graph_follows_the_model_in_lockstep(quantized, picture):
    graph, model = quantized
    parity = encoder_parity(model, graph, picture)
    assert parity.worst[1] < 1e-5
    assert set(parity.stretches) >= {"neck.2", "embedding"}


def test_parity_sees_a_single_wrong_weight(quantized, picture):
    graph, model = quantized
    layer = graph.encoder.get_submodule("layers.2.blocks.0.attn.proj")
    layer.codes[0, 0] += 3
    try:
        parity = encoder_parity(model, graph, picture)
    finally:
        layer.codes[0, 0] -= 3
    with pytest.raises(ParityError, match="differs from the model at layers"):
        require_parity(parity, dice=1.0)


def test_every_quantized_layer_runs_on_integer_kernels(quantized):
    graph, model = quantized
    layers = [m for m in graph.encoder.modules() if hasattr(m, "codes")]
    counts = census(model.SerializeToString())
    # Each with its bias inside; queries, keys and values are three products, of whole windows and of those at edges.
    blocks = sum(hasattr(module, "qkv") for module in graph.encoder.modules())
    assert counts["MatMulIntegerToFloat"] == len(layers) + 5 * blocks
    assert counts["DequantizeLinear"] == counts["MatMulInteger"] == counts["BiasGelu"] == 0
    names = [name for name, module in graph.encoder.named_modules() if hasattr(module, "codes")]
    found = kernels(model.SerializeToString())
    assert found == dict.fromkeys(names, "MatMulIntegerToFloat")
    require_integer_kernels(found, names)


def test_parity_sees_a_lot_of_tokens_that_comes_of_other_values(quantized):
    _, model = quantized
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    lots = {
        name: [
            node
            for node in broken.graph.node
            if node.op_type == "MatMulInteger" and node.input[1].startswith(f"encoder.{name}.codes")
        ]
        for name in ("layers.1.blocks.0.attn.qkv", "layers.2.blocks.0.attn.qkv")
    }
    (other, *_), (*_, last) = lots.values()
    assert all(len(products) == 6 for products in lots.values())
    assert set(tapped(broken, list(lots))[1]) == set(lots)
    last.input[0] = other.input[0]
    with pytest.raises(ParityError, match=r"products of the layer layers\.2\.blocks\.0\.attn\.qkv do not round"):
        tapped(broken, list(lots))


def test_a_layer_that_falls_back_to_floats_is_named(quantized):
    graph, model = quantized
    names = [name for name, module in graph.encoder.named_modules() if hasattr(module, "codes")]
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    node = next(node for node in broken.graph.node if node.input[1:2] == [f"encoder.{names[3]}.codes"])
    assert node.op_type == "MatMulInteger"
    node.op_type = "MatMul"  # of floats that stand for the codes
    floats = [
        onnx.helper.make_node("Cast", [name], [f"{name}.floats"], to=TensorProto.FLOAT) for name in list(node.input)[:2]
    ]
    at = list(broken.graph.node).index(node)
    product = onnx.helper.make_node("MatMul", [f"{name}.floats" for name in list(node.input)[:2]], list(node.output))
    nodes = [*list(broken.graph.node)[:at], *floats, product, *list(broken.graph.node)[at + 1 :]]
    del broken.graph.node[:]
    broken.graph.node.extend(nodes)
    with pytest.raises(ParityError, match=f"1 of {len(names)} quantized layers run in floating point here: {names[3]}"):
        require_integer_kernels(kernels(broken.SerializeToString()), names)


def test_the_file_is_standard_onnx_with_weights_at_their_bits(quantized):
    graph, model = quantized
    assert model.ir_version == 11
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 23)]
    assert not any(t.external_data for t in model.graph.initializer)
    layers = [m for m in graph.encoder.modules() if hasattr(m, "codes")]
    kind = TensorProto.INT8 if layers[0].weight_bits == 8 else TensorProto.INT4
    assert sum(t.data_type == kind and len(t.dims) > 1 for t in model.graph.initializer) == len(layers)


def test_an_export_says_nothing_about_its_internals(capfd, caplog):
    exported("w4a8")
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")]


def test_the_same_seed_gives_the_same_bytes():
    first, second = (exported("w4a8")[1].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
