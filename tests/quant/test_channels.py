import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.quant.channels import (
    Matrix,
    channel_scales,
    search_channels,
    search_rescaling,
    search_scales,
    search_strength,
)
from dfqsam.quant.gptq import gptq_with_scales
from dfqsam.quant.grid import Affine, fake_quantize, weight_scales
from dfqsam.quant.layers import QuantizedConv, QuantizedLinear
from dfqsam.quant.ranges import search_range
from dfqsam.quant.rescaling import Rescaling
from dfqsam.sam.sites import ChannelsLastConv


def test_scales_by_hand():
    low, high = torch.tensor([-1.0, -4.0]), torch.tensor([4.0, 1.0])
    assert channel_scales(low, high, 1, 2).tolist() == [2, 4]
    assert channel_scales(low, high, 3, 2).tolist() == torch.tensor([1 / 3, 4 / 3]).tolist()
    assert channel_scales(low, high, 0, 2).tolist() == torch.tensor([4 / 3, 1 / 3]).tolist()


def only(ratio: torch.Tensor) -> Rescaling:
    """A division alone."""
    return Rescaling(torch.zeros_like(ratio), ratio)


def rounded(values: torch.Tensor, change: Rescaling, grid: Affine) -> torch.Tensor:
    return change.undo(fake_quantize(change.apply(values), grid))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(1, 6), st.integers(0, 2**31))
def test_zero_is_exact_and_the_error_is_no_more_than_with_one_scale(bits, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(300, channels, generator=generator) * torch.randn(channels, generator=generator).mul(2).exp()
    change, grid = search_scales(values, bits)
    assert bool((change.ratio > 0).all())
    assert not change.center.any()
    assert 0 <= grid.zero_point < 2**bits
    error = (rounded(values, change, grid) - values).square().sum()
    whole = (fake_quantize(values, search_range(values, bits)) - values).square().sum()
    assert float(error) <= float(whole) * 1.001 + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(1, 6), st.booleans(), st.integers(0, 2**31))
def test_channels_with_zero_points_of_their_own_err_no_more_than_on_their_whole_ranges(bits, channels, zero, seed):
    generator = torch.Generator().manual_seed(seed)
    gains, shifts = torch.randn(2, channels, generator=generator)
    values = (torch.randn(300, channels, generator=generator) + 3 * shifts) * gains.mul(2).exp()
    change, grid = search_channels(values, bits, zero)
    assert bool((change.ratio > 0).all())
    error = (rounded(values, change, grid) - values).square().sum(0)
    low, high = values.amin(0), values.amax(0)
    if zero:
        low, high = low.clamp_max(0), high.clamp_min(0)
        nothing = rounded(torch.zeros(channels), change, grid)
        torch.testing.assert_close(nothing, torch.zeros(channels), rtol=0, atol=1e-4 * float(high.max() - low.min()))
    step = ((high - low) / (2**bits - 1)).clamp_min(1e-4 * search_range(values, bits).scale)
    # A rounding error is at most half a step; where zero must be a code, an end may move by another half.
    assert bool((error <= 300 * (step * (1 if zero else 0.5)).square() * 1.01).all())


def test_one_sided_channels_of_any_size_use_the_whole_grid():
    steps = torch.arange(16.0)
    values = torch.stack([steps, 1000 * steps], 1)
    change, grid = search_scales(values, 4)
    assert grid.zero_point == 0
    torch.testing.assert_close(rounded(values, change, grid), values)


def test_channels_on_either_side_of_zero_or_far_from_it_use_the_whole_grid():
    steps = torch.arange(16.0)
    near = torch.stack([steps, -1000 * steps, 10 * (steps - 5)], 1)
    torch.testing.assert_close(rounded(near, *search_channels(near, 4, zero=True)), near, rtol=1e-3, atol=1e-2)
    far = torch.stack([steps + 100, -1000 * steps - 1e5], 1)
    torch.testing.assert_close(rounded(far, *search_channels(far, 4, zero=False)), far)


@pytest.mark.parametrize("search", [search_scales, lambda values, bits: search_channels(values, bits, zero=True)])
def test_a_channel_of_zeros_keeps_a_sensible_divisor(search):
    change, _ = search(torch.stack([torch.zeros(100), torch.linspace(-1, 1, 100)], 1), 8)
    assert 1e-6 < float(change.ratio.min() / change.ratio.max()) < 1


@pytest.mark.parametrize("groups", [1, 3])
def test_a_convolution_that_rescales_is_the_same_convolution(groups):
    torch.manual_seed(0)
    conv = ChannelsLastConv(3, 3, 3, stride=2, padding=1, groups=groups).requires_grad_(False)
    x = torch.randint(-3, 5, (2, 7, 6, 3)) * torch.tensor([0.5, 8.0, 100.0])
    # Holds x, and zero, exactly; the second channel has its zero two codes further down.
    change, grid = Rescaling(torch.tensor([0.0, 16.0, 0.0]), torch.tensor([0.5, 8.0, 100.0])), Affine(1.0, 5, 4)
    layer = QuantizedConv.of(conv, grid, 8, change)
    assert layer(x).shape == conv(x).shape
    ratio, center = (
        (v.reshape(1, 3, 1, 1) if groups == 1 else v.reshape(3, 1, 1, 1)) for v in (change.ratio, change.center)
    )
    scaled = layer.codes * layer.scale[:, None, None, None]
    assert float((scaled - conv.weight * ratio).abs().amax((1, 2, 3)).div(layer.scale).max()) < 0.501
    weight = scaled / ratio
    if groups == 3:
        assert float((weight - conv.weight).abs().max()) < 0.01
    shift = ((conv.weight - weight) * center).sum((1, 2, 3)).reshape(1, 1, 1, -1)
    expected = F.conv2d(x.permute(0, 3, 1, 2), weight, conv.bias, stride=2, padding=1, groups=groups)
    torch.testing.assert_close(layer(x), expected.permute(0, 2, 3, 1) + shift, rtol=1e-4, atol=1e-4)


def test_a_matrix_that_rescales_is_the_same_matrix():
    torch.manual_seed(0)
    linear = torch.nn.Linear(4, 3).requires_grad_(False)
    values = torch.randint(0, 16, (50, 4)) * torch.tensor([1.0, 0.5, 100.0, 3.0]) + torch.tensor([7.0, 0, -900, 1])
    change, grid = search_channels(values, 4, zero=False)
    layer = QuantizedLinear.of(linear, weight_scales(linear.weight * change.ratio, 8, pairs=True), grid, 8, change)
    error = (layer(values[None])[0] - linear(values)).square().mean() / linear(values).var()
    assert float(error) < 1e-3


def uneven(seed: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights 12 x 16 and inputs 2000 x 16 whose channels differ by exp(spread * normal)."""
    generator = torch.Generator().manual_seed(seed)
    gains = (spread * torch.randn(16, generator=generator)).exp()
    values = torch.randn(2000, 16, generator=generator).relu() * gains
    return torch.randn(12, 16, generator=generator), values


def output_error(weight, values, change, grid, bits):
    """Squared error of a quantized matrix's outputs, computed by the layer itself."""
    linear = torch.nn.Linear(16, 12, bias=False)
    linear.weight.data = weight
    scaled = weight if change is None else weight * change.ratio
    layer = QuantizedLinear.of(linear, weight_scales(scaled, bits, pairs=True), grid, bits, change)
    with torch.no_grad():
        return float((layer(values[None])[0] - values @ weight.T).var(0, correction=0).mean())


@pytest.mark.parametrize("bits", [(8, 8), (8, 4), (4, 8), (4, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_inputs_of_a_matrix_are_rescaled_where_its_outputs_get_better(seed, bits):
    weight, values = uneven(seed, 1.5)
    change, grid = search_rescaling(Matrix.of(weight, values, bits, compensated=False), values)
    plain = output_error(weight, values, None, search_range(values, bits[1]), bits[0])
    if change is None:
        assert bits[0] < bits[1]  # uneven weights cost more than even inputs win
    else:
        assert bool((change.ratio > 0).all())
        assert output_error(weight, values, change, grid, bits[0]) < 0.95 * plain


@pytest.mark.parametrize("seed", range(3))
def test_weights_that_will_be_compensated_take_more_up(seed):
    weight, values = uneven(seed, 1.5)
    found, grid = search_rescaling(Matrix.of(weight, values, (4, 4)), values)
    assert found is not None

    def error(change: Rescaling, grid: Affine) -> float:
        """Squared error of outputs with compensated weights, by another route than the search's own."""
        inputs = change.apply(values)
        moment = (inputs.T @ inputs / len(inputs))[None]
        codes, scale = gptq_with_scales((weight * change.ratio)[None], moment, 4, pairs=True)
        outputs = fake_quantize(inputs, grid) @ (codes * scale[..., None])[0].T + weight @ change.center
        return float((outputs - values @ weight.T).var(0, correction=0).mean())

    assert error(found, grid) < 0.7 * error(only(torch.ones(16)), search_range(values, 4))


def test_even_channels_are_left_alone():
    weight, _ = uneven(0, 0.0)
    values = torch.rand(2000, 16, generator=torch.Generator().manual_seed(0))
    change, grid = search_rescaling(Matrix.of(weight, values, (8, 8)), values)
    assert change is None
    assert grid == search_range(values, 8)


def test_channels_away_from_zero_are_moved_there():
    weight, _ = uneven(0, 0.0)
    values = torch.rand(2000, 16, generator=torch.Generator().manual_seed(0)) + 10 * torch.arange(16)
    change, grid = search_rescaling(Matrix.of(weight, values, (8, 4)), values)
    assert change is not None
    torch.testing.assert_close(change.center, 10 * torch.arange(16) + 0.5, rtol=0, atol=0.1)
    assert float(grid.scale * change.ratio.max()) < 0.1


def test_fine_activations_leave_weights_even_and_coarse_ones_do_not():
    weight, values = uneven(0, 1.0)
    change = only(values.amax(0) / values.amax(0).mean())

    def power(bits: tuple[int, int]) -> float:
        found = search_strength(Matrix.of(weight, values, bits), change)
        return float(found.ratio.log().square().sum() / change.ratio.log().square().sum()) ** 0.5

    strengths = [power(bits) for bits in ((4, 8), (4, 4), (8, 4))]
    assert strengths == sorted(strengths)
    assert strengths[0] < 0.5 < strengths[2]
