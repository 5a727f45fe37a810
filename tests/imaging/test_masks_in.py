"""Reference masks: whatever grid they are written on, they land on the voxels of the study, or are refused."""

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.imaging import Volume, open_study, read_study_mask, read_uploaded_mask, write_study_mask
from tests.imaging.made import PLANES, enhanced, folder, marked, nifti, nifti_affine, orientations, placed, ramp


@pytest.mark.parametrize("multi_frame", [False, True], ids=["series", "enhanced"])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("name", ["m.nii.gz", "m.dcm"])
def test_what_was_written_is_read_back(tmp_path, plane, name, multi_frame):
    order = (3, 0, 4, 1, 2)
    series = [enhanced(ramp(), plane, order)] if multi_frame else placed(ramp(), plane)
    volume = open_study(folder(tmp_path / "s", series, None if multi_frame else order))
    mask = marked(volume.shape)
    write_study_mask(tmp_path / name, volume, mask)
    assert np.array_equal(read_study_mask(tmp_path / name, volume), mask)
    assert np.array_equal(read_uploaded_mask("upload", (tmp_path / name).read_bytes(), volume), mask)


@pytest.mark.parametrize("multi_frame", [False, True], ids=["one file", "enhanced"])
def test_a_segmentation_of_a_single_image_is_read_back(tmp_path, multi_frame):
    volume = open_study(folder(tmp_path / "s", [enhanced(ramp(1))] if multi_frame else placed(ramp(1))))
    mask = volume.empty_mask()
    mask[0, 1:3, 2:5] = 1
    write_study_mask(tmp_path / "m.dcm", volume, mask)
    assert np.array_equal(read_study_mask(tmp_path / "m.dcm", volume), mask)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 47), st.integers(0, 47), st.integers(0, 2**32 - 1))
def test_a_mask_in_another_orientation_lands_on_the_same_voxels(tmp_path_factory, first, second, seed):
    """The study in one orientation, a part of its mask saved in another, as tools that reorient do."""
    base = tmp_path_factory.getbasetemp()
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (6, 5, 7)).astype(np.uint8)
    image = nib.Nifti1Image(labels, nifti_affine(orientations()[first]))
    volume = open_study(nifti(base / "v.nii", labels.astype(np.int16), image.affine))
    low = rng.integers(0, 3, 3)
    part = image.slicer[low[0] :, low[1] :, low[2] :]
    axes = "".join(nib.aff2axcodes(nifti_affine(orientations()[second])))
    turned = part.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(part.affine), nib.orientations.axcodes2ornt(axes))
    )
    nib.save(turned, base / "m.nii")
    expected = np.zeros_like(labels)
    expected[low[0] :, low[1] :, low[2] :] = labels[low[0] :, low[1] :, low[2] :]
    assert np.array_equal(read_study_mask(base / "m.nii", volume), expected.transpose(2, 1, 0))


def test_a_segmentation_of_a_series_with_gaps_and_one_read_by_position(tmp_path):
    series = [made for k, made in enumerate(placed(ramp(7))) if k not in (2, 3)]
    volume = open_study(folder(tmp_path / "s", series))
    mask = marked(volume.shape)
    write_study_mask(tmp_path / "m.dcm", volume, mask)
    assert np.array_equal(read_study_mask(tmp_path / "m.dcm", volume), mask)
    whole = open_study(folder(tmp_path / "w", placed(ramp(), "oblique")))
    write_study_mask(tmp_path / "o.dcm", whole, mask)
    again = placed(ramp(), "oblique")  # the same places under new names, as after an export
    assert np.array_equal(read_study_mask(tmp_path / "o.dcm", open_study(folder(tmp_path / "a", again))), mask)
    elsewhere = open_study(folder(tmp_path / "e", placed(ramp(), "coronal")))
    with pytest.raises(InputError, match=r"another grid|outside of the study"):
        read_study_mask(tmp_path / "o.dcm", elsewhere)


def test_no_frame_of_a_segmentation_is_passed_over(tmp_path):
    """The same object on a study without one of its images, and with one reference damaged."""
    series = placed(ramp())
    volume = open_study(folder(tmp_path / "s", series))
    mask = marked(volume.shape)
    write_study_mask(tmp_path / "m.dcm", volume, mask)
    less = open_study(folder(tmp_path / "l", [series[0], *series[2:]]))
    with pytest.raises(InputError, match="not in the study"):
        read_study_mask(tmp_path / "m.dcm", less)
    made = pydicom.dcmread(tmp_path / "m.dcm")
    reference = made.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    reference.ReferencedSOPInstanceUID = "1.2.3.4.5"
    made.save_as(tmp_path / "d.dcm")
    with pytest.raises(InputError, match="not in the study"):
        read_study_mask(tmp_path / "d.dcm", volume)


def test_masks_of_other_studies_are_refused(tmp_path):
    affine = nifti_affine(orientations()[3])
    volume = open_study(nifti(tmp_path / "v.nii", ramp().astype(np.int16), affine))
    half = affine.copy()
    half[:3, 3] += affine[:3, 0] / 2
    far = affine.copy()
    far[:3, 3] += 100 * affine[:3, 0]
    coarse = affine @ np.diag([2, 2, 2, 1])
    for other, words in ((half, "another grid"), (far, "outside of the study"), (coarse, "another grid")):
        nifti(tmp_path / "m.nii", np.ones((5, 6, 7), np.uint8), other)
        with pytest.raises(InputError, match=words):
            read_study_mask(tmp_path / "m.nii", volume)
    nifti(tmp_path / "m.nii", np.full((5, 6, 7), 0.5), affine)
    with pytest.raises(InputError, match="no labels"):
        read_study_mask(tmp_path / "m.nii", volume)
    picture = Volume(np.zeros((1, 4, 5, 3), np.uint8))
    mask = np.eye(4, 5, dtype=bool)[None]
    write_study_mask(tmp_path / "m.png", picture, mask)
    assert np.array_equal(read_study_mask(tmp_path / "m.png", picture), mask)
    with pytest.raises(InputError, match="has shape"):
        read_study_mask(tmp_path / "m.png", Volume(np.zeros((1, 5, 5, 3), np.uint8)))
