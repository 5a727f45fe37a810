"""Objects followed through volumes made by hand, with a predictor that thresholds."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.imaging import Volume
from dfqsam.segment import Prompt, Propagation, Stop, segment_study, slices
from dfqsam.segment.step import box_of, part, verdict
from tests.imaging.made import nifti, nifti_affine, orientations
from tests.segment.fake import Fake
from tests.segment.shapes import ball, box, grid, tube, volume

FREE = Propagation(
    least_pixels=1, least_share=0, least_quality=0, least_overlap=0, most_growth=1e9, margin=1, margin_share=0
)
STORED = {"plane": "stored"}


def prompt(mask, k, **values):
    return Prompt(box(mask[k]), k, **{**STORED, **values})


def test_a_ball_is_found_whole_from_its_middle_slice():
    mask = ball((30, 32, 34), (15, 16, 17), 9)
    found = segment_study(Fake(), volume(mask), [prompt(mask, 15)], FREE)
    np.testing.assert_array_equal(found.mask, mask)
    one = found.found[0]
    assert (one.first, one.last, one.below, one.above) == (6, 24, Stop.EMPTY, Stop.EMPTY)
    assert found.ml(1) == pytest.approx(mask.sum() * 8 / 1000)
    assert found.encoded == 21  # 6 to 24 and one beyond each end


def test_by_default_the_tips_of_a_ball_may_be_missed_and_no_more():
    mask = ball((30, 32, 34), (15, 16, 17), 9)
    found = segment_study(Fake(), volume(mask), [prompt(mask, 15)])
    missed = mask & (found.mask == 0)
    assert not (found.mask.astype(bool) & ~mask).any()
    assert missed.sum() < 0.1 * mask.sum()
    assert {one for k in np.flatnonzero(missed.any(axis=(1, 2))) for one in [k]} <= {6, 7, 23, 24}


@pytest.mark.parametrize(("margin", "whole"), [(1, True), (0, False)])
def test_a_cone_is_followed_from_its_thin_end_as_far_as_the_margin_lets_it_grow(margin, whole):
    s, r, c = grid((10, 40, 40))
    mask = (abs(r - 20) <= s + 2) & (abs(c - 20) <= s + 2)  # a pixel wider on each side, slice by slice
    rules = Propagation(**{**FREE.__dict__, "margin": margin})
    found = segment_study(Fake(), volume(mask), [prompt(mask, 0)], rules)
    assert np.array_equal(found.mask, mask) == whole
    if not whole:
        assert (found.mask.sum(axis=(1, 2)) == 25).all()


def test_an_object_that_ends_is_not_replaced_by_its_neighbour():
    shape = (12, 30, 30)
    mask, other = tube(shape, 12, 12, 4, last=6), tube(shape, 12, 19, 1, first=5)
    rules = Propagation(**{**FREE.__dict__, "margin": 3})  # so that the neighbour is in the box
    found = segment_study(Fake(), volume(mask | other), [prompt(mask, 3)], rules)
    np.testing.assert_array_equal(found.mask, mask)
    assert found.found[0].above is Stop.EMPTY  # what is left in the box does not touch the object


def test_objects_share_the_encoder_and_each_slice_goes_through_it_once(monkeypatch):
    shape = (20, 24, 40)
    first, second, third = tube(shape, 10, 8, 3, 2, 17), tube(shape, 10, 20, 2), tube(shape, 10, 33, 4, 5, 9)
    study = volume(first | second | third)
    prompts = [prompt(first, 4), prompt(second, 15, label=7, name="cord"), prompt(third, 9, label=300)]
    fake = Fake()
    found = segment_study(fake, study, prompts, FREE)
    expected = first * 1 + second * 7 + third * 300
    np.testing.assert_array_equal(found.mask, expected)
    assert found.mask.dtype == np.uint16
    assert len(fake.encoded) == found.encoded == 20
    assert len({picture.tobytes() for picture in fake.encoded}) > 1
    assert found.names == {1: "", 7: "cord", 300: ""}
    assert [one["voxels"] for one in found.to_json()["labels"]] == [int(m.sum()) for m in (first, second, third)]
    monkeypatch.setattr(slices, "KEPT_BYTES", 0)  # without room for embeddings, the same at more work
    fake = Fake()
    again = segment_study(fake, study, prompts, FREE)
    np.testing.assert_array_equal(again.mask, expected)
    assert len(fake.encoded) > 20


def test_several_boxes_on_one_slice_are_one_picture():
    mask = tube((1, 30, 30), 8, 8, 3) | tube((1, 30, 30), 20, 20, 3)
    fake = Fake()
    prompts = [Prompt((5, 5, 12, 12), None), Prompt((17, 17, 24, 24), 0)]
    found = segment_study(fake, volume(mask), prompts)
    np.testing.assert_array_equal(found.mask, mask)
    assert len(fake.encoded) == 1


def test_where_objects_overlap_the_later_prompt_holds():
    mask = tube((1, 30, 30), 10, 10, 5)
    first, second = Prompt((5, 5, 16, 16), label=1), Prompt((5, 5, 10, 16), label=2)
    found = segment_study(Fake(), volume(mask), [first, second])
    assert [int((found.mask == n).sum()) for n in (1, 2)] == [66, 55]
    found = segment_study(Fake(), volume(mask), [second, first])
    assert [int((found.mask == n).sum()) for n in (1, 2)] == [121, 0]


def test_limits_ends_of_the_stack_and_single_slices():
    mask = tube((10, 20, 20), 9, 9, 4)

    def ends(**values):
        one = segment_study(Fake(), volume(mask), [prompt(mask, 4, **values)], FREE).found[0]
        return one.first, one.last, one.below, one.above

    assert ends() == (0, 9, Stop.EDGE, Stop.EDGE)
    assert ends(first=2) == (2, 9, Stop.LIMIT, Stop.EDGE)
    assert ends(first=4, last=4) == (4, 4, Stop.LIMIT, Stop.LIMIT)
    assert ends(first=0, last=9) == (0, 9, Stop.EDGE, Stop.EDGE)
    assert ends(last=7) == (0, 7, Stop.EDGE, Stop.LIMIT)
    assert ends(propagate=False) == (4, 4, Stop.SINGLE, Stop.SINGLE)


def test_two_boxes_of_one_object_share_the_stack_half_way():
    mask = tube((12, 20, 20), 9, 9, 4)
    prompts = [prompt(mask, 9), prompt(mask, 2)]
    found = segment_study(Fake(), volume(mask), prompts, FREE)
    np.testing.assert_array_equal(found.mask, mask)
    assert [(one.first, one.last) for one in found.found] == [(6, 11), (0, 5)]
    assert (found.found[0].below, found.found[1].above) == (Stop.PROMPT, Stop.PROMPT)
    neighbours = [prompt(mask, 2), prompt(mask, 3)]
    found = segment_study(Fake(), volume(mask), neighbours, FREE)
    assert [(one.first, one.last) for one in found.found] == [(0, 2), (3, 11)]


def test_two_parts_of_one_label_do_not_stop_each_other():
    shape = (8, 20, 40)
    left, right = tube(shape, 9, 8, 3), tube(shape, 9, 30, 3)
    found = segment_study(Fake(), volume(left | right), [prompt(left, 1), prompt(right, 6)], FREE)
    np.testing.assert_array_equal(found.mask, left | right)


def test_a_box_with_nothing_in_it_gives_an_empty_mask():
    found = segment_study(Fake(), volume(np.zeros((4, 9, 9), bool)), [Prompt((1, 1, 8, 8), 2, "stored")])
    assert not found.mask.any()
    one = found.found[0]
    assert (one.first, one.last, one.below, one.above, one.quality) == (None, None, Stop.EMPTY, Stop.EMPTY, None)
    assert str(one) == "label 1, box on stored slice 2: the model finds nothing"
    assert found.encoded == 1


def test_the_model_is_heeded_when_it_is_not_sure():
    mask = tube((10, 20, 20), 9, 9, 4)
    values = np.where(mask, 200, 0)
    values[7:, 0, 0] = 255  # what the quality below looks at
    fake = Fake(quality=lambda picture: 0.1 if picture[0, 0] > 250 else 0.9)
    found = segment_study(fake, volume(values), [prompt(mask, 4)], Propagation())
    assert (found.found[0].last, found.found[0].above) == (6, Stop.QUALITY)
    assert found.found[0].least_quality == pytest.approx(0.9)


@pytest.mark.parametrize(("half", "why"), [(9, Stop.AREA), (1, Stop.AREA)])
def test_a_jump_of_the_area_stops(half, why):
    shape = (8, 40, 40)
    mask = tube(shape, 20, 20, 4, last=4)
    grown = tube(shape, 20, 20, half, first=5)
    rules = Propagation(**{**FREE.__dict__, "margin": 10, "most_growth": 2})
    found = segment_study(Fake(), volume(mask | grown), [prompt(mask, 2)], rules)
    np.testing.assert_array_equal(found.mask, mask)
    assert found.found[0].above is why


@pytest.mark.parametrize("directions", orientations(), ids=lambda d: "".join(f"{int(x)}" for x in d.ravel()))
def test_in_every_orientation_the_same_patient_gets_the_same_mask(directions, tmp_path):
    """An egg in patient space, written with its axes flipped and swapped, is found in the axial plane."""
    nib = pytest.importorskip("nibabel")
    shape = np.abs(directions.T @ [14, 16, 18]).astype(int)
    affine = nifti_affine(directions, (1.0, 1.0, 1.0))
    centre = affine[:3, :3] @ ((shape - 1) / 2) + affine[:3, 3]
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
    egg = (((at - centre) / [3.6, 4.6, 5.6]) ** 2).sum(-1) <= 1
    path = nifti(tmp_path / "egg.nii", np.where(egg, 200, 0).astype(np.uint8), affine)
    from dfqsam.imaging import open_study
    from dfqsam.segment.outputs import write_segmentation

    study = open_study(path)
    view = study.view("axial")
    shown = [study.values(k, view) > 100 for k in range(view.count)]
    k = int(np.argmax([s.sum() for s in shown]))
    found = segment_study(Fake(), study, [Prompt(box(shown[k]), k, "axial")], FREE)
    write_segmentation(tmp_path / "mask.nii.gz", found)
    written = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), egg)
    np.testing.assert_array_equal(written.affine, nib.load(path).affine)


def test_planes_may_differ_from_prompt_to_prompt():
    mask, other = tube((16, 20, 20), 6, 6, 2), tube((16, 20, 20), 14, 14, 2, 4, 11)
    study = volume(mask | other)
    view = study.view("coronal")
    shown = view.show(other[:, 14, :])
    k = next(k for k in range(view.count) if np.array_equal(study.values(k, view) > 100, shown))
    found = segment_study(Fake(), study, [prompt(mask, 3), Prompt(box(shown), k, "coronal", label=2)], FREE)
    np.testing.assert_array_equal(found.mask, mask * 1 + other * 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 11))
def test_upwards_and_downwards_are_one_rule(seed, k):
    """A stack turned over gives the mask turned over; slices found are in one piece, around the prompt's."""
    rng = np.random.default_rng(seed)
    noise = (rng.random((12, 16, 16)) < 0.7) * 200
    asked = (3.0, 3.0, 12.0, 11.0)
    found = segment_study(Fake(), volume(noise), [Prompt(asked, k, "stored")])
    turned = segment_study(Fake(), volume(noise[::-1]), [Prompt(asked, 11 - k, "stored")])
    np.testing.assert_array_equal(found.mask[::-1], turned.mask)
    there = np.flatnonzero(found.mask.any(axis=(1, 2)))
    one = found.found[0]
    assert k in there
    assert there.tolist() == list(range(one.first, one.last + 1))
    assert not (found.mask.astype(bool) & (noise == 0)).any()


def test_colour_is_taken_as_it_is():
    frames = np.zeros((3, 12, 12, 3), np.uint8)
    frames[:, 3:9, 4:8] = 255
    found = segment_study(Fake(), Volume(frames), [Prompt((4, 3, 8, 9), 1)])
    assert found.mask.sum() == 3 * 24
    assert found.ml(1) is None
    assert found.to_json()["labels"] == [{"label": 1, "name": "", "voxels": 72, "ml": None, "covered_voxels": 0}]


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([], "There is no prompt"),
        ([Prompt((1, 1, 5, 5))], "has 6 stored slices; say which one the box is on, 0 to 5"),
        ([Prompt((1, 1, 5, 5), 6)], "no slice 6 in the stored plane; there are 6"),
        ([Prompt((1, 1, 5, 50), 2)], "reaches outside the picture"),
        ([Prompt((1, 1, 1, 5), 2)], "is empty"),
        ([Prompt((1, 1, 5, 5), 2, label=0)], "label 0 is none"),
        ([Prompt((1, 1, 5, 5), 2, label=65536)], "label 65536 is none"),
        ([Prompt((1, 1, 5, 5), 2, first=3)], "slice 2 lies outside of the slices 3 to 5"),
        ([Prompt((1, 1, 5, 5), 2, last=6)], "the last slice is to be 6; there are 6"),
        ([Prompt((1, 1, 5, 5), 2, "axial")], "no axial plane"),
        ([Prompt((1, 1, 5, 5), 2, name="a"), Prompt((1, 1, 5, 5), 2, name="b")], "named both 'a' and 'b'"),
        ([Prompt((1, 1, 5, 5), 9, origin="b.csv, line 4")], "^b.csv, line 4: There is no slice 9"),
    ],
)
def test_prompts_that_do_not_fit_are_refused_before_anything_is_encoded(prompts, words):
    fake = Fake()
    study = Volume(np.zeros((6, 8, 8), np.uint8))
    with pytest.raises(InputError, match=re.compile(words, re.IGNORECASE)):
        segment_study(fake, study, [Prompt((1, 1, 5, 5), 1), *prompts] if prompts else [])
    assert not fake.encoded


def test_the_parts_that_touch_the_object_belong_to_it():
    before = np.zeros((6, 8), bool)
    before[2:4, 2:4] = True
    mask = np.zeros((6, 8), bool)
    mask[1:3, 1:3] = mask[3, 3] = mask[5, 7] = True  # one part by its corner, and one far away
    expected = mask.copy()
    expected[5, 7] = False
    np.testing.assert_array_equal(part(mask, before), expected)
    assert not part(mask, np.zeros_like(mask)).any()
    assert not part(np.zeros_like(mask), before).any()


def test_the_box_of_a_mask():
    mask = np.zeros((10, 20), bool)
    mask[2:6, 3:13] = True
    assert box_of(mask, 0, 0) == (3, 2, 13, 6)
    assert box_of(mask, 1, 0) == (2, 1, 14, 7)
    assert box_of(mask, 1, 0.1) == (1, 0, 15, 8)  # 2 pixels of 20


def test_the_verdict_on_a_mask():
    before = np.zeros((10, 10), bool)
    before[2:8, 2:8] = True  # 36 pixels
    rules = Propagation(
        least_pixels=4, least_share=0.25, least_quality=0.5, least_overlap=0.5, most_growth=2, margin=1, margin_share=0
    )

    def of(rows, columns, quality=0.9, largest=36):
        mask = np.zeros((10, 10), bool)
        mask[rows, columns] = True
        return verdict(mask, before, quality, largest, rules)

    assert of(slice(2, 8), slice(2, 8)) is None
    assert of(slice(0, 0), slice(0, 0)) is Stop.EMPTY
    assert of(slice(2, 3), slice(2, 5)) is Stop.SMALL  # 3 pixels
    assert of(slice(2, 4), slice(2, 6)) is Stop.SMALL  # 8 pixels, less than a quarter of 36
    assert of(slice(2, 8), slice(2, 8), quality=0.49) is Stop.QUALITY
    assert of(slice(2, 8), slice(5, 10)) is None  # 18 of 33 in common
    assert of(slice(5, 10), slice(5, 10)) is Stop.OVERLAP  # 9 of 30.5
    assert of(slice(0, 10), slice(0, 8)) is Stop.AREA  # 80 pixels
    assert of(slice(2, 5), slice(2, 7)) is Stop.AREA  # 15 pixels
