import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.sam.reference.clicks import corrective
from dfqsam.sam.reference.measure import next_click


def click(found, target, seed=0):
    points, labels = corrective(found[None], target[None], torch.Generator().manual_seed(seed))
    return points[0].int().tolist(), float(labels[0])


def square(size: int, rows: slice, columns: slice) -> torch.Tensor:
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize("seed", range(5))
def test_the_first_click_is_inside_the_target(seed):
    target = square(64, slice(10, 40), slice(20, 50))
    (x, y), label = click(torch.zeros_like(target), target, seed)
    assert label == 1
    assert 10 <= y < 40
    assert 20 <= x < 50
    assert min(y - 10, 39 - y, x - 20, 49 - x) >= 2  # not on the rim, where a person would not click


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("wanted", "found", "positive"), [(50, 30, 1), (30, 50, 0)], ids=["missed", "too much"])
def test_a_click_is_on_what_is_wrong_and_says_which_way(wanted, found, positive, seed):
    target = square(64, slice(10, 40), slice(10, wanted))
    (x, y), label = click(square(64, slice(10, 40), slice(10, found)), target, seed)
    assert label == positive
    assert 30 <= x < 50
    assert 10 <= y < 40


@pytest.mark.parametrize("seed", range(5))
def test_a_thin_rim_is_not_clicked_where_a_large_part_is_wrong(seed):
    target = square(64, slice(8, 56), slice(8, 56))
    found = square(64, slice(9, 56), slice(8, 30))  # the right half is missing, and a row on top
    (x, _), label = click(found, target, seed)
    assert label == 1
    assert x >= 30


def test_where_nothing_is_wrong_the_click_confirms_the_target():
    target = square(32, slice(4, 12), slice(20, 30))
    (x, y), label = click(target, target)
    assert label == 1
    assert bool(target[y, x])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_clicks_lie_in_the_error_and_tell_its_kind(seed, one, other):
    draw = torch.Generator().manual_seed(seed)
    found, target = (torch.rand(3, 20, 24, generator=draw) < share for share in (one, other))
    points, labels = corrective(found, target, draw)
    for i, ((x, y), label) in enumerate(zip(points.int().tolist(), labels.tolist(), strict=True)):
        assert bool((found ^ target)[i, y, x])
        assert label == float(target[i, y, x])


def test_a_measured_click_is_the_deepest_pixel_of_the_largest_error():
    wanted = np.zeros((20, 30), bool)
    wanted[2:11, 2:11] = True  # 9 x 9, missed
    found = np.zeros_like(wanted)
    found[12:17, 20:25] = True  # 5 x 5, too much
    assert next_click(found, wanted) == ((6.5, 6.5), 1.0)
    assert next_click(found | wanted, wanted) == ((22.5, 14.5), 0.0)
    assert next_click(wanted, wanted) == ((6.5, 6.5), 1.0)
