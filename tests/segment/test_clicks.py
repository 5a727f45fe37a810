"""Clicks in volumes, alone and with boxes, for models that understand them."""

import numpy as np
import pytest

from dfqsam.errors import InputError
from dfqsam.segment import Prompt, Stop, segment_study
from dfqsam.segment.sheet import contact_sheet
from dfqsam.segment.table import read_choices, read_prompts
from tests.segment.fake import Fake
from tests.segment.shapes import box, tube, volume
from tests.segment.test_propagation import FREE

SHAPE = (9, 30, 30)
LEFT, RIGHT = tube(SHAPE, 8, 8, 3), tube(SHAPE, 8, 20, 3, first=2, last=6)
BOTH = LEFT | RIGHT


def click(*points, inside=None, k=4, **values):
    return Prompt(None, k, "stored", points=points, inside=inside or (True,) * len(points), **values)


def test_a_click_is_an_object_that_is_followed():
    found = segment_study(Fake(), volume(BOTH), [click((20.0, 8.0))], FREE)
    np.testing.assert_array_equal(found.mask, RIGHT)
    one = found.found[0]
    assert (one.first, one.last, one.below, one.above) == (2, 6, Stop.EMPTY, Stop.EMPTY)
    assert one.to_json()["box"] is None
    assert one.to_json()["clicks"] == [[20.0, 8.0, 1]]
    assert str(one).startswith("label 1, clicks on stored slice 4: slices 2 to 6")
    assert contact_sheet(found).shape[2] == 3


def test_clicks_beside_the_object_correct_a_box():
    wide = box((LEFT | RIGHT)[4])
    prompt = Prompt(wide, 4, "stored", points=((20.0, 8.0),), inside=(False,), propagate=False)
    found = segment_study(Fake(), volume(BOTH), [prompt], FREE)
    np.testing.assert_array_equal(found.mask[4], LEFT[4])
    assert "box and clicks on" in str(found.found[0])
    assert contact_sheet(found).shape[2] == 3


def test_clicks_of_one_label_on_two_slices_share_the_stack():
    fake = Fake()
    found = segment_study(fake, volume(LEFT), [click((8, 8), k=1), click((9, 9), k=6)], FREE)
    np.testing.assert_array_equal(found.mask, LEFT)
    assert [(one.first, one.last) for one in found.found] == [(0, 3), (4, 8)]
    assert found.found[0].above is Stop.PROMPT
    assert len(fake.encoded) == 9


def test_a_click_outside_of_a_box_is_of_another_part():
    found = segment_study(Fake(), volume(BOTH), [Prompt(box(LEFT[1]), 1, "stored"), click((20, 8), k=5)], FREE)
    np.testing.assert_array_equal(found.mask, BOTH)
    assert [(one.first, one.last) for one in found.found] == [(0, 8), (2, 6)]
    inside = segment_study(Fake(), volume(BOTH), [Prompt(box(LEFT[1]), 1, "stored"), click((8, 8), k=5)], FREE)
    assert [(one.first, one.last) for one in inside.found] == [(0, 3), (4, 8)]


def test_a_model_that_knows_no_boxes_does_single_slices_only():
    fake = Fake()
    fake.understands = ("point",)
    with pytest.raises(InputError, match="followed by boxes, which this model was not trained on"):
        segment_study(fake, volume(BOTH), [click((8, 8))], FREE)
    assert not fake.encoded
    found = segment_study(fake, volume(BOTH), [click((8, 8), propagate=False)], FREE)
    assert np.flatnonzero(found.mask.any(axis=(1, 2))).tolist() == [4]


@pytest.mark.parametrize("point", [(31, 5), (5, -1), (np.nan, 5)])
def test_clicks_outside_of_the_slice_are_refused_before_the_work(point):
    fake = Fake()
    with pytest.raises(InputError, match=r"outside the picture|finite"):
        segment_study(fake, volume(BOTH), [click(point)], FREE)
    assert not fake.encoded


def table(tmp_path, text):
    path = tmp_path / "prompts.csv"
    path.write_text(text)
    return path


def test_rows_with_clicks(tmp_path):
    text = """study,slice,x,y,inside,label
a.nii,3,10,11.5,,cyst
a.nii,3,12,13,no,cyst
a.nii,4,10,11,yes,cyst
a.nii,3,1,2,1,vein
"""
    cyst = Prompt(None, 3, None, 1, "cyst", points=((10, 11.5), (12, 13)), inside=(True, False))
    assert read_prompts(table(tmp_path, text)) == {
        "a.nii": [
            cyst,
            Prompt(None, 4, None, 1, "cyst", points=((10, 11),), inside=(True,)),
            Prompt(None, 3, None, 2, "vein", points=((1, 2),), inside=(True,)),
        ]
    }


def test_clicks_join_the_box_before_them(tmp_path):
    text = """study,slice,x0,y0,x1,y1,x,y,inside,series
a,3,1,2,30,40,,,,2
a,3,50,60,70,80,,,,
a,3,,,,,55,66,no,2
a,3,1,2,30,40,5,6,yes,
b,0,1,2,3,4,,,,
"""
    path = table(tmp_path, text)
    found = read_prompts(path)
    assert found["a"] == [
        Prompt((1, 2, 30, 40), 3),
        Prompt((50, 60, 70, 80), 3, points=((55, 66),), inside=(False,)),
        Prompt((1, 2, 30, 40), 3, points=((5, 6),), inside=(True,)),
    ]
    assert read_choices(path) == {"a": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("study,slice,x\na,1,2\n", "has no column y"),
        ("study,slice,x,y\na,1,2,\n", "line 2: y is ''; give a number of pixels"),
        ("study,slice,x,y\na,1,-2,3\n", "line 2: the click -2,3 is below 0"),
        ("study,slice,x,y,inside\na,1,2,3,maybe\n", "line 2: inside is 'maybe'; give yes or no"),
        ("study,slice,x,y,inside\na,1,2,3,no\n", "line 2: no click is on the object"),
        ("study,slice,x0,y0,x1,y1,inside\na,1,2,3,4,5,no\n", "line 2: inside belongs to a click"),
        ("study,slice,x,y,last\na,1,2,3,8\na,1,2,4,9\n", "line 3: propagate, first and last differ"),
        ("study,slice,x,y,series\na,1,2,3,0\n", "line 2: series is 0"),
        ("study,slice,x,y,series\na,1,2,3,2\na,1,2,3,1\n", "line 3: series is 1, and 2 in another row of a"),
    ],
)
def test_bad_rows_are_named_by_their_line(tmp_path, text, words):
    path = table(tmp_path, text)
    read = read_choices if "series" in words else read_prompts
    with pytest.raises(InputError, match=words) as error:
        read(path)
    assert "\n" not in str(error.value)
