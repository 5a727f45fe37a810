import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.quant.channels import Matrix, channel_scales, search_channels, search_divisors, search_strength
from dfqsam.quant.gptq import gptq_with_scales
from dfqsam.quant.grid import Affine, fake_quantize, weight_scales
from dfqsam.quant.layers import QuantizedConv, QuantizedLinear
from dfqsam.quant.ranges import search_range
from dfqsam.sam.sites import ChannelsLastConv


def test_scales_by_hand():
    low, high = torch.tensor([-1.0, -4.0]), torch.tensor([4.0, 1.0])
    assert channel_scales(low, high, 1, 2).tolist() == [2, 4]
    assert channel_scales(low, high, 3, 2).tolist() == torch.tensor([1 / 3, 4 / 3]).tolist()
    assert channel_scales(low, high, 0, 2).tolist() == torch.tensor([4 / 3, 1 / 3]).tolist()


@given(st.integers(2, 8), st.integers(1, 6), st.integers(0, 2**31))
def test_zero_is_exact_and_the_error_is_no_more_than_with_one_scale(bits, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(300, channels, generator=generator) * torch.randn(channels, generator=generator).mul(2).exp()
    divisor, grid = search_channels(values, bits)
    assert bool((divisor > 0).all())
    assert 0 <= grid.zero_point < 2**bits
    assert not fake_quantize(torch.zeros(channels) / divisor, grid).any()
    error = (fake_quantize(values / divisor, grid) * divisor - values).square().sum()
    whole = (fake_quantize(values, search_range(values, bits)) - values).square().sum()
    assert float(error) <= float(whole) * 1.001 + 1e-6


def test_one_sided_channels_of_any_size_use_the_whole_grid():
    steps = torch.arange(16.0)
    values = torch.stack([steps, 1000 * steps], 1)
    divisor, grid = search_channels(values, 4)
    assert grid.zero_point == 0
    torch.testing.assert_close(fake_quantize(values / divisor, grid) * divisor, values)


def test_a_channel_of_zeros_keeps_a_sensible_divisor():
    divisor, _ = search_channels(torch.stack([torch.zeros(100), torch.linspace(-1, 1, 100)], 1), 8)
    assert 1e-6 < float(divisor.min() / divisor.max()) < 1


def test_a_depthwise_convolution_with_divisors_is_the_same_convolution():
    torch.manual_seed(0)
    conv = ChannelsLastConv(3, 3, 3, stride=2, padding=1, groups=3).requires_grad_(False)
    x = torch.randint(-3, 5, (2, 7, 6, 3)) * torch.tensor([0.5, 8.0, 100.0])
    divisor, grid = torch.tensor([0.5, 8.0, 100.0]), Affine(1.0, 3, 3)  # holds x exactly
    layer = QuantizedConv.of(conv, grid, 8, divisor)
    weight = layer.codes * layer.scale[:, None, None, None] / divisor[:, None, None, None]
    assert float((weight - conv.weight).abs().max()) < 0.01
    expected = F.conv2d(x.permute(0, 3, 1, 2), weight, conv.bias, stride=2, padding=1, groups=3).permute(0, 2, 3, 1)
    assert layer(x).shape == conv(x).shape
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def uneven(seed: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights 12 x 16 and inputs 2000 x 16 whose channels differ by exp(spread * normal)."""
    generator = torch.Generator().manual_seed(seed)
    gains = (spread * torch.randn(16, generator=generator)).exp()
    values = torch.randn(2000, 16, generator=generator).relu() * gains
    return torch.randn(12, 16, generator=generator), values


def output_error(weight, values, divisor, grid, bits):
    """Squared error of a quantized matrix's outputs, computed by the layer itself."""
    linear = torch.nn.Linear(16, 12, bias=False)
    linear.weight.data = weight
    scaled = weight if divisor is None else weight * divisor
    layer = QuantizedLinear.of(linear, weight_scales(scaled, bits, pairs=True), grid, bits, divisor)
    with torch.no_grad():
        return float((layer(values) - values @ weight.T).square().mean())


@pytest.mark.parametrize("bits", [(8, 8), (8, 4), (4, 8), (4, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_inputs_of_a_matrix_are_divided_where_its_outputs_get_better(seed, bits):
    weight, values = uneven(seed, 1.5)
    divisor, grid = search_divisors(Matrix.of(weight, values, bits, compensated=False), values)
    plain = output_error(weight, values, None, search_range(values, bits[1]), bits[0])
    if divisor is None:
        assert bits[0] < bits[1]  # uneven weights cost more than even inputs win
    else:
        assert bool((divisor > 0).all())
        assert output_error(weight, values, divisor, grid, bits[0]) < 0.95 * plain


@pytest.mark.parametrize("seed", range(3))
def test_weights_that_will_be_compensated_take_more_up(seed):
    weight, values = uneven(seed, 1.5)
    divisor, grid = search_divisors(Matrix.of(weight, values, (4, 4)), values)
    assert divisor is not None

    def error(d: torch.Tensor, grid: Affine) -> float:
        """Squared error of outputs with compensated weights, by another route than the search's own."""
        inputs = values / d
        moment = (inputs.T @ inputs / len(inputs))[None]
        codes, scale = gptq_with_scales((weight * d)[None], moment, 4, pairs=True)
        found = fake_quantize(inputs, grid) @ (codes * scale[..., None])[0].T
        return float((found - values @ weight.T).square().mean())

    assert error(divisor, grid) < 0.7 * error(torch.ones(16), search_range(values, 4))


def test_even_channels_are_left_alone():
    weight, _ = uneven(0, 0.0)
    values = torch.rand(2000, 16, generator=torch.Generator().manual_seed(0))
    divisor, grid = search_divisors(Matrix.of(weight, values, (8, 8)), values)
    assert divisor is None
    assert grid == search_range(values, 8)


def test_fine_activations_leave_weights_even_and_coarse_ones_do_not():
    weight, values = uneven(0, 1.0)
    ratio = values.amax(0) / values.amax(0).mean()
    strengths = [search_strength(Matrix.of(weight, values, bits), ratio) for bits in ((4, 8), (4, 4), (8, 4))]
    assert strengths == sorted(strengths)
    assert strengths[0] < 0.5 < strengths[2]
