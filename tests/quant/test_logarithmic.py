import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.quant.grid import Affine
from dfqsam.quant.logarithmic import LogSqrt2, fake_quantize_log, search_log_scale
from dfqsam.quant.product import QuantizedProduct

BITS = st.integers(2, 8)


def test_by_hand():
    x = torch.tensor([2.0, 1.0, 0.7, 0.5, 0.3, 0.26, 0.0])
    expected = torch.tensor([1.0, 1.0, 2**-0.5, 0.5, 2**-1.5, 0.0, 0.0])
    torch.testing.assert_close(fake_quantize_log(x, LogSqrt2(1.0, 2)), expected)


@given(BITS, st.floats(0.01, 1))
def test_the_grid_itself_is_left_alone(bits, scale):
    values = scale * torch.exp2(-torch.arange(2**bits, dtype=torch.float64) / 2).float()
    values = values[values > 1e-29]
    torch.testing.assert_close(fake_quantize_log(values, LogSqrt2(scale, bits)), values)


@given(BITS, st.integers(0, 2**31))
def test_inside_the_range_the_ratio_is_within_a_quarter_power_of_two(bits, seed):
    generator = torch.Generator().manual_seed(seed)
    smallest = -(2**bits - 1) / 2
    x = torch.exp2(torch.rand(50, generator=generator) * max(smallest, -60))
    ratio = torch.log2(fake_quantize_log(x, LogSqrt2(1.0, bits)) / x)
    assert float(ratio.abs().max()) <= 0.25 + 1e-4


def test_search_cuts_lonely_peaks_and_never_does_worse_than_the_whole_range():
    torch.manual_seed(0)
    x = (torch.randn(100_000) * 0.01 + 0.1).abs()
    x[0] = 1.0
    grid = search_log_scale(x, 2)

    def error(grid: LogSqrt2) -> float:
        return float((fake_quantize_log(x, grid) - x).square().mean())

    assert error(grid) <= error(LogSqrt2(1.0, 2))
    assert grid.scale < 0.2
    assert search_log_scale(torch.zeros(4), 4).scale > 0


def test_a_product_rounds_both_factors():
    product = QuantizedProduct(LogSqrt2(1.0, 2), Affine(0.5, 1, 2))
    a, b = torch.tensor([[0.7, 0.1]]), torch.tensor([[0.8], [5.0]])
    assert float(product(a, b)) == pytest.approx(2**-0.5)
    plain = QuantizedProduct(Affine(0.25, 0, 2), Affine(0.5, 1, 2))
    assert float(plain(a, b)) == 0.75
    assert "LogSqrt2" in repr(product)
