import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.quant.grid import Affine
from dfqsam.quant.logarithmic import OCTAVES, SQRT2, Logarithmic, fake_quantize_log, search_log_grid
from dfqsam.quant.product import QuantizedProduct

BITS = st.integers(2, 8)


def test_by_hand():
    x = torch.tensor([2.0, 1.0, 0.7, 0.5, 0.3, 0.26, 0.0])
    expected = torch.tensor([1.0, 1.0, 2**-0.5, 0.5, 2**-1.5, 0.0, 0.0])
    torch.testing.assert_close(fake_quantize_log(x, Logarithmic(1.0, 2)), expected)


def test_three_steps_an_octave_by_hand():
    x = torch.tensor([1.0, 0.8, 0.5, 0.45, 0.2])  # -3 log2: 0, 0.97, 3, 3.46, 6.97
    expected = torch.tensor([1.0, 2 ** (-1 / 3), 0.5, 0.5, 0.0])
    torch.testing.assert_close(fake_quantize_log(x, Logarithmic(1.0, 2, 3)), expected)


@given(BITS, st.floats(0.01, 1), st.sampled_from(OCTAVES))
def test_the_grid_itself_is_left_alone(bits, scale, octave):
    values = scale * torch.exp2(-torch.arange(2**bits, dtype=torch.float64) / octave).float()
    values = values[values > 1e-29]
    torch.testing.assert_close(fake_quantize_log(values, Logarithmic(scale, bits, octave)), values)


@given(BITS, st.integers(0, 2**31), st.sampled_from(OCTAVES))
def test_inside_the_range_the_ratio_is_within_half_a_step(bits, seed, octave):
    generator = torch.Generator().manual_seed(seed)
    smallest = -(2**bits - 1) / octave
    x = torch.exp2(torch.rand(50, generator=generator) * max(smallest, -60))
    ratio = torch.log2(fake_quantize_log(x, Logarithmic(1.0, bits, octave)) / x)
    assert float(ratio.abs().max()) <= 0.5 / octave + 1e-4


def test_search_cuts_lonely_peaks_and_never_does_worse_than_the_whole_range():
    torch.manual_seed(0)
    x = (torch.randn(100_000) * 0.01 + 0.1).abs()
    x[0] = 1.0
    grid = search_log_grid(x, 2)

    def error(grid: Logarithmic) -> float:
        return float((fake_quantize_log(x, grid) - x).square().mean())

    assert error(grid) <= error(Logarithmic(1.0, 2))
    assert grid.scale < 0.2
    assert search_log_grid(torch.zeros(4), 4).scale > 0


def test_eight_bits_take_finer_steps_than_four_and_those_of_the_paper_are_no_finer_with_more_bits():
    x = torch.softmax(torch.randn(200, 64, generator=torch.Generator().manual_seed(0)) * 3, -1)

    def error(grid: Logarithmic) -> float:
        return float((fake_quantize_log(x, grid) - x).square().sum().sqrt() / x.square().sum().sqrt())

    fitted = {bits: search_log_grid(x, bits) for bits in (4, 8)}
    paper = {bits: search_log_grid(x, bits, SQRT2) for bits in (4, 8)}
    assert fitted[8].octave > 4 * fitted[4].octave
    assert error(fitted[8]) < 0.02
    assert error(paper[8]) > 0.9 * error(paper[4]) > 0.05
    assert error(fitted[4]) <= error(paper[4]) + 1e-6


def test_a_product_rounds_both_factors():
    product = QuantizedProduct(Logarithmic(1.0, 2), Affine(0.5, 1, 2))
    a, b = torch.tensor([[0.7, 0.1]]), torch.tensor([[0.8], [5.0]])
    assert float(product(a, b)) == pytest.approx(2**-0.5)
    plain = QuantizedProduct(Affine(0.25, 0, 2), Affine(0.5, 1, 2))
    assert float(plain(a, b)) == 0.75
    assert "Logarithmic" in repr(product)
