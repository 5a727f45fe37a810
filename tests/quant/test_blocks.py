"""Weights of four bits in blocks: the layout, the scales, and the layer that computes with them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dfqsam.quant.block_linear import BlockLinear
from dfqsam.quant.blocks import block_scales, gptq_in_blocks, pack, rounded_codes, spread, unpack
from dfqsam.quant.gptq import weighted_error
from dfqsam.quant.grid import weight_codes, weight_scales, widest_scales


@given(
    arrays(np.int8, st.tuples(st.integers(1, 4), st.integers(1, 70)), elements=st.integers(-8, 7)),
    st.sampled_from([2, 32, 64]),
)
def test_packed_codes_read_back(codes, block):
    packed = pack(torch.from_numpy(codes), block)
    assert packed.shape == (len(codes), -(-codes.shape[1] // block), block // 2)
    assert np.array_equal(unpack(packed, codes.shape[1]).numpy(), codes)
    filled = unpack(packed, packed.shape[1] * block)[:, codes.shape[1] :]
    assert not filled.any()


def test_the_layout_by_hand():
    # 1 -> 9, -1 -> 7: the first in the low half. 7 -> 15 and a filling 0 -> 8.
    assert pack(torch.tensor([[1, -1, 7]]), 4).tolist() == [[[0x79, 0x8F]]]


@given(st.integers(1, 5), st.integers(1, 100), st.sampled_from([32, 64]), st.integers(0, 99))
def test_scales_are_halves_and_round_no_worse_than_what_clips_nothing(outputs, inputs, block, seed):
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))
    scale = block_scales(weight, block)
    assert scale.shape == (outputs, -(-inputs // block))
    assert torch.equal(scale.half().float(), scale)
    assert bool((scale != 0).all())
    error = rounded_codes(weight, scale, block) * spread(scale, block, inputs) - weight
    parts = torch.nn.functional.pad(weight, (0, -inputs % block)).unflatten(1, (-1, block))
    widest = widest_scales(parts, 4).half().float()
    plain = rounded_codes(weight, widest, block) * spread(widest, block, inputs) - weight
    assert float(error.square().sum()) <= (1 + 1e-6) * float(plain.square().sum())


def test_weights_of_zero_and_of_any_size_have_scales_that_a_half_can_hold():
    weight = torch.stack([torch.zeros(40), torch.full((40,), 1e-9), torch.full((40,), 1e9)])
    scale = block_scales(weight, 32)
    assert bool(scale.isfinite().all())
    assert bool((scale != 0).all())
    assert not (rounded_codes(weight[:1], scale[:1], 32)).any()


def test_blocks_serve_better_than_a_scale_a_channel_where_inputs_differ():
    torch.manual_seed(0)
    weight = torch.randn(24, 128) * torch.logspace(-1.5, 0, 4).repeat_interleave(32)
    scale = weight_scales(weight, 4)
    channel = weight_codes(weight, scale, 4) * scale[:, None] - weight
    fine = block_scales(weight, 32)
    blocks = rounded_codes(weight, fine, 32) * spread(fine, 32, 128) - weight
    assert float(blocks.square().sum()) < 0.5 * float(channel.square().sum())


def test_compensated_codes_have_less_error_of_the_outputs_than_the_nearest():
    torch.manual_seed(0)
    inputs = torch.randn(1, 400, 6) @ torch.randn(1, 6, 80) + 0.1 * torch.randn(1, 400, 80)
    moment, weight = inputs.mT @ inputs / 400, torch.randn(1, 16, 80)
    codes, scale = gptq_in_blocks(weight, moment, 32, 0.01)
    assert codes.min() >= -8
    assert codes.max() <= 7
    found = weighted_error(codes * spread(scale, 32, 80) - weight, moment).sum()
    plain = block_scales(weight[0], 32)
    nearest = (rounded_codes(weight[0], plain, 32) * spread(plain, 32, 80))[None]
    assert float(found) < 0.3 * float(weighted_error(nearest - weight, moment).sum())


@pytest.mark.parametrize("block", [32, 64, 128])
def test_a_layer_computes_with_its_rounded_weights_and_knows_what_is_off_its_grid(block):
    torch.manual_seed(0)
    linear = torch.nn.Linear(80, 6).requires_grad_(False)
    layer = BlockLinear.of(linear, block)
    x = torch.randn(2, 3, 80)
    expected = x @ layer.weights()[0].T + linear.bias
    torch.testing.assert_close(layer(x), expected)
    assert float((layer(x) - linear(x)).norm() / linear(x).norm()) < 0.15
    assert layer.on_grid()
    layer.add_bias(torch.ones(6))
    torch.testing.assert_close(layer(x), expected + 1)
    other = linear.weight[None].flip(1)
    codes, scale, weight = layer.fitted(other, torch.eye(80)[None], 0.01)
    layer.set_weights(codes, scale)
    torch.testing.assert_close(layer.weights(), weight)
    assert layer.on_grid()
    layer.scale[0, 0] = 0.1  # no half
    assert not layer.on_grid()
    layer.scale[0, 0] = 0.5
    layer.codes[0, -1, -1] = 0x80 + 7  # something in what fills up the last block
    assert not layer.on_grid()
