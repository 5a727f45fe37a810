"""Weights that saturate no 16-bit sum of two products, whatever the activations are."""

import numpy as np
import onnxruntime as ort
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dfqsam.quant.grid import Affine, pair_safe, weight_codes, weight_scales
from dfqsam.quant.layers import QuantizedConv, QuantizedLinear


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=9))
def test_pairs_are_safe_and_move_no_farther_than_they_must(row):
    codes = torch.tensor([row], dtype=torch.float32)
    safe = pair_safe(codes)
    assert torch.equal(pair_safe(safe), safe)
    for before, after in zip(
        zip(row[::2], row[1::2], strict=False), safe[0, : len(row) // 2 * 2].view(-1, 2), strict=True
    ):
        total, moved = sum(before), int(after.sum())
        assert abs(moved) == min(abs(total), 128)
        assert total * moved >= 0
    if len(row) % 2:
        assert safe[0, -1] == row[-1]


def test_the_search_prefers_a_larger_scale_to_cut_pairs():
    weight = torch.full((1, 8), 1.0)
    scale = weight_scales(weight, 8, pairs=True)
    error = weight_codes(weight, scale, 8, pairs=True) * scale[:, None] - weight
    assert float(error.abs().max()) < 0.01
    plain = weight_scales(weight, 8)
    assert float((weight_codes(weight, plain, 8, pairs=True) * plain[:, None] - weight).abs().max()) > 0.4


def test_sums_are_exact_in_onnx_runtime_for_the_worst_activations():
    torch.manual_seed(0)
    linear = torch.nn.Linear(65, 16)
    linear.weight.data = torch.rand_like(linear.weight) + 0.5
    scale = weight_scales(linear.weight.data, 8, pairs=True)
    layer = QuantizedLinear.of(linear, scale, Affine(1.0, 0, 8), 8)
    assert layer.on_grid()
    codes = layer.codes.numpy()
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [4, 65])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(codes, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.full((4, 65), 255, np.uint8)})[0]
    assert np.array_equal(found[0], 255 * codes.astype(np.int64).sum(0))


def test_a_layer_with_an_unsafe_pair_is_not_on_its_grid():
    layer = QuantizedLinear.of(torch.nn.Linear(4, 1), torch.ones(1), Affine(1.0, 0, 8), 8)
    assert layer.on_grid()
    layer.codes[:2] = 127
    assert not layer.on_grid()


def test_the_kernel_of_a_dense_convolution_is_safe_along_the_channels_of_each_place():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 5, 3, padding=1)
    conv.requires_grad_(False)
    conv.weight.data = torch.rand_like(conv.weight) + 0.5  # all near the largest: every pair would sum to more
    layer = QuantizedConv.of(conv, Affine(1.0, 0, 8), 8)
    assert layer.on_grid()
    rows = layer.codes.permute(0, 2, 3, 1).flatten(1).float()
    assert torch.equal(pair_safe(rows), rows)
    error = layer.weights()[0] - conv.weight.flatten(1)
    assert float(error.norm() / conv.weight.norm()) < 0.01
    layer.codes[0, :2, 0, 0] = 127
    assert not layer.on_grid()


def test_a_depthwise_kernel_is_left_alone_for_no_two_of_its_products_are_added_in_sixteen_bits():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 6, 3, padding=1, groups=6)
    conv.weight.data = torch.rand_like(conv.weight) + 0.5
    layer = QuantizedConv.of(conv, Affine(1.0, 0, 8), 8)
    assert int(layer.codes.max()) == 127
    assert layer.on_grid()
