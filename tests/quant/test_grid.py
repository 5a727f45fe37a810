import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.quant.grid import Affine, affine, code_limits, fake_quantize, weight_codes, weight_scales, widest_scales

BITS = st.integers(2, 8)
VALUES = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50)


def test_fake_quantize_by_hand():
    grid = Affine(scale=0.5, zero_point=1, bits=2)  # -0.5, 0, 0.5, 1
    x = torch.tensor([-3.0, -0.3, 0.2, 0.25, 0.3, 0.74, 9.0])
    assert fake_quantize(x, grid).tolist() == [-0.5, -0.5, 0.0, 0.0, 0.5, 0.5, 1.0]


@given(st.floats(-50, 50), st.floats(-50, 50), BITS)
def test_zero_is_always_on_the_grid_and_the_ends_are_reached(low, high, bits):
    low, high = sorted((low, high))
    grid = affine(low, high, bits)
    assert 0 <= grid.zero_point < 2**bits
    assert float(fake_quantize(torch.tensor(0.0), grid)) == 0.0
    assert grid.low <= min(low, 0) + grid.scale
    assert grid.high >= max(high, 0) - grid.scale


@given(st.floats(1e-3, 10), BITS, st.data())
def test_the_grid_itself_is_left_alone(scale, bits, data):
    zero_point = data.draw(st.integers(0, 2**bits - 1))
    grid = Affine(float(torch.tensor(scale)), zero_point, bits)
    values = (torch.arange(2**bits) - zero_point) * grid.scale
    assert torch.equal(fake_quantize(values, grid), values)


@given(VALUES, BITS)
def test_inside_the_range_the_error_is_at_most_half_a_step(values, bits):
    x = torch.tensor(values)
    grid = affine(float(x.min()), float(x.max()), bits)
    inside = x.clamp(grid.low, grid.high)
    assert (fake_quantize(inside, grid) - inside).abs().max() <= grid.scale * 0.5001 + 1e-6


@given(st.integers(1, 5), st.integers(1, 9), BITS, st.integers(0, 2**32 - 1))
def test_weight_codes_fit_their_bits_and_beat_plain_rounding(rows, columns, bits, seed):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    scale = weight_scales(weight, bits)
    codes = weight_codes(weight, scale, bits)
    assert codes.dtype == torch.int8
    low, high = code_limits(bits)
    assert low <= int(codes.min())
    assert int(codes.max()) <= high
    plain = widest_scales(weight, bits)
    assert float(((weight / plain[:, None]).round().clamp(low, high) * plain[:, None] - weight).abs().max()) <= (
        0.5001 * float(plain.abs().max()) + 1e-6
    )  # nothing is clipped
    error = (codes * scale[:, None] - weight).square().sum(1)
    reference = (weight_codes(weight, plain, bits) * plain[:, None] - weight).square().sum(1)
    assert bool((error <= reference * 1.0001 + 1e-9).all())


def test_the_longer_end_of_a_grid_lies_where_the_largest_weight_is():
    weight = torch.tensor([[4.0, -3.5, 1.0], [-4.0, 3.5, 1.0], [4.0, -4.0, 0.0]])
    scale = widest_scales(weight, 4)
    assert scale.tolist() == pytest.approx([-0.5, 0.5, 4 / 7])
    codes = (weight / scale[:, None]).round().tolist()
    assert codes == [[-8, 7, -2], [-8, 7, 2], [7, -7, 0]]
    assert widest_scales(weight, 8).tolist() == pytest.approx([4 / 127] * 3)


def test_a_channel_of_zeros_stays_zero():
    weight = torch.zeros(2, 3)
    assert int(weight_codes(weight, weight_scales(weight, 4), 4).abs().max()) == 0
