"""Three planes through one voxel, in every orientation, against nibabel."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.app import display, orthogonal
from dfqsam.app.orthogonal import Spot
from dfqsam.app.sent import Sent
from dfqsam.imaging import Volume
from tests.imaging import made

SHAPE = (5, 6, 7)


def study(directions, colour: bool = False) -> Volume:
    rng = np.random.default_rng(2)
    affine = made.nifti_affine(directions, (0.5, 0.75, 2.5))[:, [2, 1, 0, 3]]
    array = rng.integers(0, 255, (*SHAPE, 3) if colour else SHAPE).astype(np.uint8 if colour else np.int16)
    return Volume(array, (2.5, 0.75, 0.5), affine, "MR")


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_a_place_in_a_plane_is_the_voxel_that_the_picture_shows(number):
    volume = study(made.orientations()[number])
    for plane in orthogonal.planes(volume):
        view = volume.view(plane)
        for at in ((0, 0, 0), (4, 5, 6), (2, 1, 4)):
            place = orthogonal.spot(view, at)
            assert volume.values(place.k, view)[place.y, place.x] == volume.array[at]
            assert orthogonal.voxel(view, place) == at


@pytest.mark.parametrize("number", range(48))
def test_all_planes_meet_in_one_place_of_the_patient(number):
    """By nibabel: the canonical (RAS) volume has the same value where the three pictures have it."""
    volume = study(made.orientations()[number])
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.affine[:, [2, 1, 0, 3]])
    ras = nib.as_closest_canonical(image)
    array = np.asarray(ras.dataobj)
    at = (3, 2, 5)
    mm = volume.affine @ [*at, 1]
    i, j, k = np.rint(np.linalg.inv(ras.affine) @ mm).astype(int)[:3]
    wide, deep, high = array.shape
    # The patient's right is on the left: x runs against i; rows run down, against j (axial) and k.
    expected = {
        "axial": (wide - 1 - i, deep - 1 - j),
        "coronal": (wide - 1 - i, high - 1 - k),
        "sagittal": (deep - 1 - j, high - 1 - k),
    }
    for plane in orthogonal.planes(volume):
        place = orthogonal.spot(volume.view(plane), at)
        assert (place.x, place.y) == expected[plane]
        assert array[i, j, k] == volume.values(place.k, volume.view(plane))[place.y, place.x]


def test_the_scene_shows_pictures_masks_letters_and_sizes_once():
    volume = study(made.orientations()[7])
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 4, SHAPE).astype(np.uint8)
    sent, at = Sent(), (3, 2, 5)
    colours = {2: "#e69f00", 1: "#56b4e9"}
    scene = orthogonal.scene(volume, at, None, masks, colours, display.Look(), "1", sent=sent)
    assert [one["title"] for one in scene["planes"]] == ["Axial", "Coronal", "Sagittal"]
    assert scene["unit"] == "mm"
    for one, plane in zip(scene["planes"], orthogonal.planes(volume), strict=True):
        view = volume.view(plane)
        place = orthogonal.spot(view, at)
        assert (one["index"], one["cursor"]) == (place.k, {"x": place.x, "y": place.y})
        assert one["sides"] == vars(view.sides)
        assert one["mm"] * one["aspect"] == pytest.approx(view.spacing[0])
        assert one["picture"] == display.picture_url(volume.picture(place.k, view))
        for bit, layer in zip((2, 1), one["layers"], strict=True):
            assert layer["runs"] == display.runs(view.show(np.take(masks, place.k, axis=view.axis)) & bit > 0)
        assert [layer["dashed"] for layer in one["layers"]] == [False, True]
    again = orthogonal.scene(volume, at, None, masks, colours, display.Look(), "1", sent=sent)
    assert [one["picture"] for one in again["planes"]] == [None] * 3


def test_a_point_or_a_slice_moves_the_voxel():
    volume = study(made.orientations()[0])
    view = volume.view("coronal")
    number = orthogonal.planes(volume).index("coronal")
    at = (3, 2, 5)
    there = orthogonal.moved(volume, at, {"plane": number, "x": 1, "y": 0})
    assert orthogonal.spot(view, there) == Spot(orthogonal.spot(view, at).k, 1, 0)
    there = orthogonal.moved(volume, at, {"plane": number, "slice": 4})
    here = orthogonal.spot(view, at)
    assert orthogonal.spot(view, there) == Spot(4, here.x, here.y)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["plane", "x", "y", "slice"]), inner) | st.lists(inner, max_size=3),
    max_leaves=8,
)


@given(ANYTHING)
def test_whatever_a_browser_asks_for_the_voxel_stays_in_the_volume(asked):
    found = orthogonal.moved(study(made.orientations()[3]), (3, 2, 5), asked)
    assert all(0 <= value < size for value, size in zip(found, SHAPE, strict=True))


def test_there_are_three_planes_only_where_the_patient_is_known():
    assert orthogonal.planes(Volume(np.zeros(SHAPE, np.int16))) == ()
    assert orthogonal.planes(Volume(np.zeros((1, 6, 7), np.int16), (1, 1, 1), np.eye(4))) == ()
