"""Voxels that several objects claim: the later prompt's mask holds, in every format, and what is covered is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.imaging import open_study, read_study_mask
from dfqsam.segment import Overlap, Prompt, segment_study
from dfqsam.segment.outputs import volumes_csv, write_segmentation
from tests.imaging.made import folder, nifti, placed
from tests.segment.fake import Fake
from tests.segment.shapes import box, tube, volume
from tests.segment.test_propagation import FREE

pytest.importorskip("highdicom")
SHAPE = (4, 24, 26)
LARGE, SMALL = tube(SHAPE, 12, 12, 8), tube(SHAPE, 12, 15, 2, first=1, last=2)


def prompts(*order):
    boxes = {
        1: Prompt(box(LARGE[1]), 1, "stored", 1, "liver"),
        2: Prompt(box(SMALL[1]), 1, "stored", 2, "cyst", last=2),
    }
    return [boxes[label] for label in order]


def test_what_is_covered_is_counted_and_said():
    found = segment_study(Fake(), volume(LARGE), prompts(1, 2), FREE)
    small = int((found.mask == 2).sum())
    assert found.overlaps == (Overlap(1, 2, small),)
    assert found.overlap_notes() == [
        f"liver: {small} of its voxels are cyst's as well and written as cyst, which was asked for later"
    ]
    document = found.to_json()
    assert document["overlaps"] == [{"label": 1, "under": 2, "voxels": small}]
    assert [one["covered_voxels"] for one in document["labels"]] == [small, 0]
    assert [one["voxels"] for one in document["labels"]] == [int(LARGE.sum()) - small, small]
    row = volumes_csv([{"study": "a", "mask": "m", **document}]).decode().splitlines()[1]
    assert row.endswith(f",m,{small}")


def test_an_object_that_is_covered_whole_is_not_lost_silently():
    found = segment_study(Fake(), volume(LARGE), prompts(2, 1), FREE)
    assert not (found.mask == 2).any()
    (one,) = found.overlaps
    assert (one.label, one.under) == (2, 1)
    assert one.voxels > 0


def test_objects_side_by_side_have_no_overlap():
    left, right = tube(SHAPE, 6, 6, 2), tube(SHAPE, 16, 16, 2)
    both = [Prompt(box(m[1]), 1, "stored", n) for n, m in ((1, left), (2, right))]
    found = segment_study(Fake(), volume(left | right), both, FREE)
    assert found.overlaps == ()
    assert found.overlap_notes() == []


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=6),
    st.sampled_from(["axial", "coronal", "sagittal"]),
)
def test_claimed_voxels_are_shown_or_counted(drawn, plane):
    """Single slices of a white volume, in one plane or several: each object is its boxes."""
    white = volume(np.ones((24, 24, 24), bool))
    asked = [Prompt((x, y, x + 4, y + 3), 5, plane if n % 2 else "stored", n, propagate=False) for n, x, y in drawn]
    found = segment_study(Fake(), white, asked)
    claimed = {}
    for one in asked:
        mask = segment_study(Fake(), white, [one]).mask > 0
        claimed[one.label] = claimed.get(one.label, False) | mask
    for label, mask in claimed.items():
        covered = {over.under: over.voxels for over in found.overlaps if over.label == label}
        assert int((found.mask == label).sum()) + sum(covered.values()) == int(mask.sum())
        for under, count in covered.items():
            assert count == int((mask & (found.mask == under)).sum())


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_every_format_has_the_same_voxels(tmp_path, order):
    stack = np.where(LARGE, 200, 0)
    series = open_study(folder(tmp_path / "s", placed(stack.astype(np.uint16), WindowCenter=100, WindowWidth=200)))
    scan = open_study(nifti(tmp_path / "v.nii", stack.astype(np.int16).T, np.diag([1, 1, 2, 1])))
    for study, names in ((series, ("m.dcm", "m.nii.gz")), (scan, ("n.nii",))):
        found = segment_study(Fake(), study, prompts(*order), FREE)
        assert found.overlaps
        for name in names:
            write_segmentation(tmp_path / name, found)
            labels = read_study_mask(tmp_path / name, study)
            expected = found.mask if order == (1, 2) or name != "m.dcm" else (found.mask > 0).astype(np.uint8)
            assert np.array_equal(labels, expected), name
