"""Masks keep their place: in the patient (mm), bit for bit in the header, and from the picture back into the array."""

import json

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 (its own documentation's name)
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.imaging import Volume, millilitres, open_study, write_study_mask
from dfqsam.imaging.view import PLANES as VIEWS
from tests.imaging.made import (
    PLANES,
    affine_of,
    enhanced,
    folder,
    marked,
    nifti,
    nifti_affine,
    orientations,
    placed,
    ramp,
)

KEPT = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"),
)


def nibabel_points(path, label):
    """RAS positions of all voxels with a label, sorted."""
    image = nib.load(path)
    points = nib.affines.apply_affine(image.affine, np.argwhere(np.asanyarray(image.dataobj) == label))
    return points[np.lexsort(points.T)]


def itk_points(path, label):
    """The same from SimpleITK, whose space is LPS."""
    image = sitk.ReadImage(str(path))
    found = np.argwhere(sitk.GetArrayFromImage(image) == label)
    points = np.array([image.TransformIndexToPhysicalPoint([int(x) for x in index[::-1]]) for index in found])
    points = points * [-1, -1, 1]
    return points[np.lexsort(points.T)]


def array_points(volume, mask, label):
    """The same by the volume's own affine."""
    points = nib.affines.apply_affine(volume.affine, np.argwhere(mask == label))
    return points[np.lexsort(points.T)]


@pytest.mark.parametrize("index", range(48))
def test_every_orientation_keeps_the_place_of_a_mask(tmp_path, index):
    directions = orientations()[index]
    data = ramp(7, 6, 5).astype(np.int16)  # the file's order: i, j, k
    source = nifti(tmp_path / "v.nii.gz", data, nifti_affine(directions), codes=(2, 1))
    reference = marked(data.shape)
    nifti(tmp_path / "r.nii.gz", reference, nifti_affine(directions), codes=(2, 1))
    volume = open_study(source)
    assert np.array_equal(volume.array.transpose(2, 1, 0), data)
    assert volume.spacing == (2.5, 0.75, 0.5)
    assert volume.notes == ()
    mask = reference.transpose(2, 1, 0)
    write_study_mask(tmp_path / "m.nii.gz", volume, mask)
    out, into = nib.load(tmp_path / "m.nii.gz"), nib.load(source)
    assert out.shape == into.shape
    assert out.affine.tobytes() == into.affine.tobytes()
    for name in KEPT:
        assert out.header[name].tobytes() == into.header[name].tobytes(), name
    for label in (1, 2):
        expected = nibabel_points(tmp_path / "r.nii.gz", label)
        assert np.array_equal(nibabel_points(tmp_path / "m.nii.gz", label), expected)
        np.testing.assert_allclose(itk_points(tmp_path / "m.nii.gz", label), expected, atol=1e-4)
        np.testing.assert_allclose(array_points(volume, mask, label), expected, atol=1e-4)
    assert millilitres(volume, mask == 1) == pytest.approx(12 * 0.5 * 0.75 * 2.5 / 1000)


@pytest.mark.parametrize("index", range(48))
def test_a_mask_drawn_in_any_view_lies_where_it_was_drawn(tmp_path, index):
    """An anatomical ball in mm, drawn slice by slice on what the eye sees, is the ball in the array."""
    directions = orientations()[index]
    affine = nifti_affine(directions)
    data = np.zeros((7, 6, 5), np.uint8)
    centre = nib.affines.apply_affine(affine, [3, 2, 2])
    data[tuple(np.argwhere(np.ones_like(data)).T)] = 1 + np.arange(data.size) % 200
    volume = open_study(nifti(tmp_path / "v.nii", data, affine))
    where = nib.affines.apply_affine(volume.affine, np.argwhere(np.ones(volume.shape))).reshape(*volume.shape, 3)
    ball = np.linalg.norm(where - centre, axis=-1) < 2
    ball[0, 0, 0] = True  # no symmetry
    letters = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    for plane in VIEWS:
        view = volume.view(plane)
        mask = volume.empty_mask()
        for k in range(view.count):
            at = np.take(where, k, axis=view.axis)
            shown = view.show(at)
            volume.put(mask, k, view, view.show(np.take(ball, k, axis=view.axis)), 3)
            for side, (first, last) in {
                view.sides.right: (shown[:, 0], shown[:, -1]),
                view.sides.bottom: (shown[0], shown[-1]),
                view.sides.left: (shown[:, -1], shown[:, 0]),
                view.sides.top: (shown[-1], shown[0]),
            }.items():
                axis, sign = letters[side]
                assert ((last - first)[..., axis] * sign > 0).all(), (plane, side)
            assert np.array_equal(volume.values(k, view), view.show(np.take(volume.array, k, axis=view.axis)))
        assert np.array_equal(mask, np.where(ball, 3, 0)), plane
    sides = {plane: volume.view(plane).sides for plane in VIEWS[1:]}
    assert [(s.left, s.top) for s in sides.values()] == [("R", "A"), ("R", "S"), ("A", "S")]
    assert volume.view("axial").spacing == pytest.approx(
        tuple(np.array([0.5, 0.75, 2.5])[[int(np.argmax(np.abs(directions[axis]))) for axis in (1, 0)]])
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 47), st.sampled_from(VIEWS), st.integers(0, 2**32 - 1))
def test_show_and_store_undo_each_other(index, plane, seed):
    affine = np.eye(4)
    affine[:3, :3] = orientations()[index] * 0.7
    rng = np.random.default_rng(seed)
    volume = Volume(rng.integers(0, 99, rng.integers(1, 6, 3)), (0.7, 0.7, 0.7), affine)
    view = volume.view(plane)
    k = int(rng.integers(view.count))
    stored = np.take(volume.array, k, axis=view.axis)
    assert view.show(stored).shape == view.shape
    assert np.array_equal(view.store(view.show(stored)), stored)


@pytest.mark.parametrize("multi_frame", [False, True], ids=["series", "enhanced"])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(
    "order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)], ids=["straight", "back", "mixed"]
)
def test_a_dicom_series_in_any_plane_and_order(tmp_path, plane, order, multi_frame):
    stack = ramp()
    if multi_frame:
        source = folder(tmp_path / "s", [enhanced(stack, plane, order)])
        values = stack.astype(int) - 50
    else:
        source = folder(tmp_path / "s", placed(stack, plane), order)
        values = stack
    volume = open_study(source)
    assert volume.notes == ()
    assert np.array_equal(volume.array, values)
    assert volume.spacing == pytest.approx((2.5, 0.75, 0.5))
    np.testing.assert_allclose(volume.affine, affine_of(plane), atol=1e-6)
    mask = marked(volume.shape)
    expected = {label: array_points(volume, mask, label) for label in (1, 2)}

    write_study_mask(tmp_path / "m.nii.gz", volume, mask)
    for label, points in expected.items():
        np.testing.assert_allclose(nibabel_points(tmp_path / "m.nii.gz", label), points, atol=1e-4)
        np.testing.assert_allclose(itk_points(tmp_path / "m.nii.gz", label), points, atol=1e-4)
    image = nib.load(tmp_path / "m.nii.gz")
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)

    write_study_mask(tmp_path / "m.dcm", volume, mask, {1: "liver", 2: "lesion"})
    segmentation = hd.seg.segread(tmp_path / "m.dcm")
    read = segmentation.get_volume(combine_segments=True)
    to_ras = np.diag([-1, -1, 1, 1]) @ read.affine
    for label, points in expected.items():
        found = nib.affines.apply_affine(to_ras, np.argwhere(read.array == label))
        np.testing.assert_allclose(found[np.lexsort(found.T)], points, atol=1e-4)
    assert [str(item.SegmentLabel) for item in segmentation.SegmentSequence] == ["liver", "lesion"]
    check_frames_with_pydicom(tmp_path / "m.dcm", source, mask, volume)


def check_frames_with_pydicom(path, source, mask, volume):
    """Every frame of the SEG, by pydicom alone: its segment, position and source say what the mask says."""
    made = pydicom.dcmread(path)
    frames = made.pixel_array
    originals = {d.SOPInstanceUID: d for d in (pydicom.dcmread(file) for file in source.iterdir())}
    any_source = next(iter(originals.values()))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber"):
        assert made[keyword].value == any_source[keyword].value
    assert made.SeriesInstanceUID != any_source.SeriesInstanceUID
    slices_seen = set()
    for frame, groups in zip(frames, made.PerFrameFunctionalGroupsSequence, strict=True):
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        starts = (volume.affine @ np.c_[np.arange(len(mask)), np.zeros((len(mask), 2)), np.ones(len(mask))].T).T[:, :3]
        k = int(np.argmin(np.linalg.norm(starts - position * [-1, -1, 1], axis=1)))
        np.testing.assert_allclose(starts[k], position * [-1, -1, 1], atol=1e-4)
        assert np.array_equal(frame, mask[k] == segment)
        slices_seen.add((k, segment))
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
        original = originals[reference.ReferencedSOPInstanceUID]
        if "PerFrameFunctionalGroupsSequence" in original:
            number = int(np.atleast_1d(reference.ReferencedFrameNumber)[0]) - 1
            original = original.PerFrameFunctionalGroupsSequence[number].PlanePositionSequence[0]
        np.testing.assert_allclose(np.array(original.ImagePositionPatient, float), position, atol=1e-4)
    assert slices_seen == {(k, label) for k in range(len(mask)) for label in (1, 2) if (mask[k] == label).any()}


def test_a_series_agrees_with_highdicom_and_simpleitk(tmp_path):
    """Two independent readers see every voxel at the same place."""
    series = placed(ramp(), "oblique", RescaleSlope=1, RescaleIntercept=-1024)
    source = folder(tmp_path / "s", series, (3, 1, 4, 0, 2))
    volume = open_study(source)
    theirs = hd.get_volume_from_series(series)
    to_ras = np.diag([-1, -1, 1, 1]) @ theirs.affine
    ours = dict(zip(map(tuple, np.round(points(volume.affine, volume.shape), 3)), volume.array.ravel(), strict=True))
    yours = dict(zip(map(tuple, np.round(points(to_ras, theirs.spatial_shape), 3)), theirs.array.ravel(), strict=True))
    assert ours == yours
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(source))
    image = sitk.ReadImage(names)
    for index in [(0, 0, 0), (6, 5, 4), (2, 3, 1)]:
        where = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        at = np.linalg.solve(volume.affine, [*where, 1])[:3]
        np.testing.assert_allclose(at, np.round(at), atol=1e-4)
        assert image[index] == volume.array[tuple(np.round(at).astype(int))]


def points(affine, shape):
    return nib.affines.apply_affine(affine, np.argwhere(np.ones(shape)))


def test_both_transforms_are_kept_where_they_differ(tmp_path):
    image = nib.Nifti1Image(ramp(3, 4, 5).astype(np.int16), np.diag([1, 2, 3, 1]))
    image.set_qform(np.diag([-1, 2, 3, 1]), 1)
    sheared = np.array([[1, 0.1, 0, 5], [0, 2, 0.3, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    image.set_sform(sheared, 4)
    image.header["descrip"] = b"Name of a patient"
    image.header["db_name"] = b"4711"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Name of a patient"))
    nib.save(image, tmp_path / "v.nii")
    volume = open_study(tmp_path / "v.nii")
    assert volume.notes == (
        "The header's two transforms differ; the sform is taken here, other tools may take the qform.",
    )
    write_study_mask(tmp_path / "m.nii", volume, volume.array > 20)
    assert b"patient" not in (tmp_path / "m.nii").read_bytes()
    assert b"4711" not in (tmp_path / "m.nii").read_bytes()
    out = nib.load(tmp_path / "m.nii")
    for name in KEPT:
        assert out.header[name].tobytes() == image.header[name].tobytes(), name
    assert np.array_equal(out.get_fdata(), np.asarray(image.dataobj) > 20)
    assert millilitres(volume, np.ones(volume.shape)) == pytest.approx(60 * 6 / 1000)


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 1, 1), (7, 6, 5, 1)])
def test_masks_have_the_shape_of_their_source(tmp_path, shape):
    data = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "v.nii")
    volume = open_study(tmp_path / "v.nii")
    write_study_mask(tmp_path / "m.nii", volume, volume.array % 3)
    image = nib.load(tmp_path / "m.nii")
    assert image.shape == shape
    assert np.array_equal(np.asanyarray(image.dataobj), data % 3)


def test_only_dicom_seg_names_the_patient(tmp_path):
    source = folder(tmp_path / "Test^Name", placed(ramp()))
    volume = open_study(source)
    mask = marked(volume.shape)
    for name in ("m.nii", "m.json", "m.dcm"):
        write_study_mask(tmp_path / name, volume, mask)
    identifiers = (b"Test^Name", b"ID-4711", b"1.2.3", b"ACC-12", b"19000101")
    for name in ("m.nii", "m.json"):
        content = (tmp_path / name).read_bytes()
        assert not [word for word in identifiers if word in content]
    content = (tmp_path / "m.dcm").read_bytes()
    assert [word for word in identifiers if word in content] == list(identifiers)
    assert "Test^Name" not in repr(volume)
    assert json.loads((tmp_path / "m.json").read_text())["images"][0]["file_name"] == "slice-0001.png"


def test_masks_that_do_not_fit_are_refused(tmp_path):
    volume = open_study(folder(tmp_path / "s", placed(ramp())))
    good = marked(volume.shape)
    for name, mask, words in (
        ("m.nii", good[1:], "has shape"),
        ("m.nii", good - 0.5, "give labels"),
        ("m.nii", good.astype(int) - 1, "give labels"),
        ("m.tif", good, "must be named"),
        ("m.png", good, "cannot hold 5 slices"),
        ("m.dcm", good * 0, "mask is empty"),
        ("none/m.nii", good, "cannot be written"),
    ):
        with pytest.raises(InputError, match=words) as error:
            write_study_mask(tmp_path / name, volume, mask)
        assert "\n" not in str(error.value)
    picture = Volume(np.zeros((1, 4, 5, 3), np.uint8))
    for name, words in (("m.nii", "no size in mm"), ("m.dcm", "refers to DICOM images")):
        with pytest.raises(InputError, match=words):
            write_study_mask(tmp_path / name, picture, np.ones((1, 4, 5), bool))
    with pytest.raises(InputError, match="segment name"):
        write_study_mask(tmp_path / "m.dcm", volume, good, {1: "a\\b"})
    assert not list(tmp_path.glob("m.*"))
