import torch

from dfqsam.quant.grid import affine, fake_quantize
from dfqsam.quant.ranges import channel_ranges, search_range


def error(x: torch.Tensor, grid) -> float:
    return float((fake_quantize(x, grid) - x).square().mean())


def test_search_is_no_worse_than_the_full_range_and_clips_a_lonely_outlier():
    torch.manual_seed(0)
    x = torch.randn(100_000)
    x[0] = 60.0
    full = affine(float(x.min()), float(x.max()), 4)
    found = search_range(x, 4)
    assert error(x, found) < 0.5 * error(x, full)
    assert found.high < 10


def test_values_on_a_grid_are_kept_exactly():
    x = torch.arange(-5, 11).repeat(50) * 0.25
    grid = search_range(x, 4)
    assert error(x, grid) == 0


def test_one_sided_values_spend_no_code_on_the_other_side():
    assert search_range(torch.rand(1000), 8).zero_point == 0


def test_channel_ranges_cut_the_tails_of_each_channel():
    values = torch.stack([torch.arange(1000.0), torch.arange(1000.0) * -2], 1)
    low, high = channel_ranges(values, tail=0.01)
    assert low.tolist() == [10, -1978]
    assert high.tolist() == [989, -20]
