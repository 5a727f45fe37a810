import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dfqsam.synth.layouts import EXTENT, LAYOUTS, boxes_of, present, random_layouts


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([8, 33, 64, 256]), st.integers(0, 2**40))
def test_layouts_are_distinct_whole_and_of_moderate_size(size, seed):
    masks = random_layouts(1, size, seed)
    assert masks.shape == (1, LAYOUTS, size, size)
    assert masks.dtype == torch.bool
    there = present(masks)[0]
    assert there[0]
    assert there.tolist() == sorted(there.tolist(), reverse=True)
    assert int(masks[0].sum(0).max()) == 1
    boxes = boxes_of(masks)[0]
    for mask, (x0, y0, x1, y1) in zip(masks[0, there].numpy(), boxes[there].tolist(), strict=True):
        assert ndimage.label(mask, np.ones((3, 3)))[1] <= 2
        assert max(x1 - x0, y1 - y0) <= max(2, EXTENT[1] * size * 1.3) + 1


def test_every_image_depends_on_the_seed_and_its_index_alone():
    assert torch.equal(random_layouts(3, 32, 5)[:2], random_layouts(2, 32, 5))
    assert not torch.equal(random_layouts(4, 32, 5), random_layouts(4, 32, 6))
    assert set(present(random_layouts(40, 64, 0)).sum(1).tolist()) == {1, 2, 3}


def test_boxes_are_the_outermost_pixels_and_zeros_where_nothing_is():
    masks = torch.zeros(2, 2, 10, 12, dtype=torch.bool)
    masks[0, 1, 3:7, 5:12] = True
    masks[1, 0, 0, 0] = True
    assert boxes_of(masks)[0].tolist() == [[0, 0, 0, 0], [5, 3, 11, 6]]
    assert boxes_of(masks)[1].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]
    assert present(masks).tolist() == [[False, True], [True, False]]
