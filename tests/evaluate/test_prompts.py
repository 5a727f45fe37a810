import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.evaluate.prompts import CLICK, CLICKS, EXACT, JITTERED, exact_box, make, offered


def test_a_model_is_asked_only_as_far_as_it_understands():
    assert offered(("box",)) == ["exact", "jittered"]
    assert offered(("point",)) == ["click", "clicks"]
    assert offered(("box", "point", "mask")) == ["exact", "jittered", "click", "clicks"]
    assert offered(("box",), ["jittered"]) == ["jittered"]
    with pytest.raises(InputError, match="not trained on point prompts; choose some of exact, jittered"):
        offered(("box",), ["click"])
    with pytest.raises(InputError, match="no prompt 'shout'"):
        offered(("box",), ["shout"])
    with pytest.raises(InputError, match="neither boxes nor points"):
        offered(("mask",))


def test_the_exact_box_has_the_outermost_pixels_and_is_never_empty():
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    assert exact_box(mask) == (3, 2, 7, 4)
    dot = np.zeros((9, 9), bool)
    dot[8, 8] = True
    assert exact_box(dot) == (8, 8, 9, 9)


@st.composite
def objects(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    mask = np.zeros((height, width), bool)
    y0, x0 = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    mask[y0 : draw(st.integers(y0 + 1, height)), x0 : draw(st.integers(x0 + 1, width))] = True
    return mask


@settings(max_examples=200, deadline=None)
@given(mask=objects(), seed=st.integers(0, 2**31 - 1))
def test_prompts_stay_inside_the_picture_and_are_the_same_every_time(mask, seed):
    height, width = mask.shape
    for kind in (EXACT, JITTERED):
        box = make(kind, "a", seed, mask.shape, mask).box
        assert box == make(kind, "a", seed, mask.shape, mask).box
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
    for kind in (CLICK, CLICKS):
        prompt = make(kind, "a", seed, mask.shape, mask)
        again = make(kind, "a", seed, mask.shape, mask)
        assert np.array_equal(prompt.points, again.points)
        for (x, y), label in zip(prompt.points, prompt.labels, strict=True):
            assert mask[int(y), int(x)] == bool(label)


def test_jitter_moves_sides_by_about_a_tenth_and_depends_on_case_and_seed():
    mask = np.zeros((400, 400), bool)
    mask[100:201, 100:301] = True
    moves = np.array([make(JITTERED, str(i), 0, mask.shape, mask).box for i in range(400)]) - exact_box(mask)
    assert np.abs(moves).max() == 20  # SAM's own limit; a tenth of the width is 20 too
    assert moves[:, 1].std() == pytest.approx(10, rel=0.15)
    assert len(np.unique(moves, axis=0)) == 400
    assert make(JITTERED, "0", 1, mask.shape, mask).box != make(JITTERED, "0", 0, mask.shape, mask).box


def test_without_a_mask_only_boxes_can_be_asked_with():
    assert make(EXACT, "a", 0, (9, 9), None, (1, 2, 3, 4)).box == (1, 2, 3, 4)
    for kind, box in ((CLICK, (1, 2, 3, 4)), (EXACT, None)):
        with pytest.raises(InputError, match="no reference mask"):
            make(kind, "a", 0, (9, 9), None, box)
