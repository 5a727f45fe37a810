import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import DiceMetric, MeanIoU, compute_hausdorff_distance, compute_surface_dice

from dfqsam.errors import InputError
from dfqsam.evaluate.metrics import dice, iou, surface


def test_overlap_by_hand():
    assert dice([1, 1, 0, 0], [1, 0, 1, 0]) == 0.5
    assert iou([1, 1, 0, 0], [1, 0, 1, 0]) == pytest.approx(1 / 3)
    assert dice([0, 0], [0, 0]) == iou([0, 0], [0, 0]) == 1
    assert dice([1, 0], [0, 1]) == iou([1, 0], [0, 1]) == 0
    for metric in (dice, iou, surface):
        with pytest.raises(InputError, match="shapes"):
            metric(np.ones((1, 2)), np.ones((2, 1)))


def test_distances_by_hand():
    one, other = np.zeros((2, 9, 12), bool)
    one[2:6, 2] = True
    other[2:6, 5] = True
    assert surface(one, other) == surface(other, one)
    assert surface(one, other).hd95 == 3
    assert surface(one, other, tolerance=3).nsd == 1
    assert surface(one, other, tolerance=2.99).nsd == 0
    assert surface(one, other, (7.0, 0.5)).hd95 == 1.5  # three columns of half a millimetre
    assert surface(one, other, (7.0, 0.5)).nsd == 1
    square, smaller = np.zeros((2, 30, 30), bool)
    square[5:25, 5:25] = True
    smaller[6:24, 6:24] = True
    assert surface(square, smaller, tolerance=1).nsd == pytest.approx((76 - 4 + 68) / (76 + 68))  # all but the corners


def test_empty_masks_have_no_distance():
    full, empty = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    for pair in ((full, empty), (empty, full)):
        assert math.isnan(surface(*pair).hd95)
        assert surface(*pair).nsd == 0
    assert math.isnan(surface(empty, empty).hd95)
    assert surface(empty, empty).nsd == 1


def test_an_object_at_the_edge_of_the_picture_has_its_outline_there():
    one, other = np.zeros((2, 8, 8), bool)
    one[:4] = True
    other[:, :4] = True
    assert surface(one, one).hd95 == 0
    assert surface(one, other, tolerance=0).nsd == pytest.approx(4 * 2 / (20 + 20) * 2)


masks = hnp.arrays(bool, (11, 14), elements=st.booleans())
blobs = st.tuples(*(st.integers(0, 7) for _ in range(4))).map(
    lambda t: np.pad(np.ones((t[2] + 1, t[3] + 1), bool), ((t[0], 15 - t[0] - t[2]), (t[1], 15 - t[1] - t[3])))
)
spacings = st.tuples(st.floats(0.2, 3), st.floats(0.2, 3))


# MONAI 1.6 calls its own function with an argument that it has deprecated.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@settings(max_examples=100, deadline=None)
@given(pair=st.one_of(st.tuples(masks, masks), st.tuples(blobs, blobs)), spacing=spacings, tolerance=st.floats(0, 4))
def test_the_figures_are_those_of_monai(pair, spacing, tolerance):
    one, other = pair
    a, b = (torch.from_numpy(mask)[None, None].float() for mask in pair)
    if one.any() and other.any():
        assert dice(one, other) == pytest.approx(DiceMetric()(a, b).item(), abs=1e-6)
        assert iou(one, other) == pytest.approx(MeanIoU()(a, b).item(), abs=1e-6)
        mine = surface(one, other, spacing, tolerance)
        theirs = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
        assert mine.hd95 == pytest.approx(theirs.item(), rel=1e-5, abs=1e-5)
        # A distance that equals the tolerance but for rounding is counted one way in float32 and another in float64.
        reach = np.abs(np.hypot(*np.meshgrid(np.arange(16) * spacing[0], np.arange(16) * spacing[1])) - tolerance)
        assume(not ((reach > 0) & (reach < 1e-5)).any())
        theirs = compute_surface_dice(a, b, [tolerance], include_background=True, spacing=spacing)
        assert mine.nsd == pytest.approx(theirs.item(), abs=1e-6)
