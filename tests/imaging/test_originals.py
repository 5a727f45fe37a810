"""Real volumes as they left the scanner, where they are at hand; they are never part of this repository.

They are looked for in ../shared/data/originals beside the repository, or in DFQSAM_ORIGINALS.
"""

import os
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 (its own documentation's name)
from pydicom.uid import generate_uid

from dfqsam.imaging import area_mm2, millilitres, open_study, read_study_mask, write_study_mask
from tests.imaging.made import folder
from tests.imaging.test_geometry import KEPT, array_points, itk_points, nibabel_points

PLACES = (os.environ.get("DFQSAM_ORIGINALS"), Path(__file__).parents[3] / "shared/data/originals")
FOLDER = next((Path(place) for place in PLACES if place and Path(place).is_dir()), None)
VOLUMES = {
    "sct/t1/t1w.nii.gz": "sct/t1/t1w_seg-manual.nii.gz",
    "sct/t2/t2.nii.gz": "sct/t2/t2_seg-manual.nii.gz",
    "sct/t2s/t2s_uncropped.nii.gz": "sct/t2s/t2s_uncropped_gmseg_manual.nii.gz",
    "totalsegmentator/example_ct_sm.nii.gz": "totalsegmentator/example_seg.nii.gz",
}
pytestmark = pytest.mark.skipif(FOLDER is None, reason="the volumes are not at hand")


def original(name):
    assert FOLDER is not None
    return FOLDER / name


@pytest.mark.parametrize("name", VOLUMES)
def test_reference_masks_drawn_slice_by_slice_are_written_where_they_were(tmp_path, name):
    """The annotator's mask, drawn again in every view on the scanner's volume, is the annotator's file in mm."""
    volume, reference = open_study(original(name)), open_study(original(VOLUMES[name]))
    assert volume.shape == reference.shape
    assert volume.notes == ()
    truth = reference.array > 0
    assert np.array_equal(read_study_mask(original(VOLUMES[name]), volume), reference.array)
    for plane in ("axial", "coronal", "sagittal"):
        view, mask = volume.view(plane), volume.empty_mask()
        for k in range(view.count):
            volume.put(mask, k, view, reference.values(k, reference.view(plane)) > 0)
        assert np.array_equal(mask > 0, truth)
    write_study_mask(tmp_path / "m.nii.gz", volume, truth)
    out, into = nib.load(tmp_path / "m.nii.gz"), nib.load(original(name))
    for field in KEPT:
        assert out.header[field].tobytes() == into.header[field].tobytes(), field
    assert np.array_equal(np.asanyarray(out.dataobj) > 0, np.asanyarray(nib.load(original(VOLUMES[name])).dataobj) > 0)
    np.testing.assert_allclose(nibabel_points(tmp_path / "m.nii.gz", 1), array_points(volume, truth, 1), atol=1e-3)
    voxel = abs(np.linalg.det(into.affine[:3, :3])) / 1000
    assert millilitres(volume, truth) == pytest.approx(truth.sum() * voxel, rel=1e-5)


@pytest.mark.parametrize(("name", "ending"), [*zip(VOLUMES, ("nrrd", "mha", "nhdr", "mhd"), strict=True)])
def test_as_nrrd_or_metaimage_it_is_the_same_study(tmp_path, name, ending):
    expected = open_study(original(name))
    image = sitk.ReadImage(str(original(name)))
    for key in image.GetMetaDataKeys():  # of NIfTI's header, at which ITK complains
        image.EraseMetaData(key)
    sitk.WriteImage(image, str(tmp_path / f"v.{ending}"), ending != "nhdr")
    volume = open_study(tmp_path / f"v.{ending}")
    assert np.array_equal(volume.array, expected.array)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-3)
    assert volume.notes == ()
    truth = read_study_mask(original(VOLUMES[name]), volume)
    assert np.array_equal(truth, read_study_mask(original(VOLUMES[name]), expected))
    write_study_mask(tmp_path / "m.nii.gz", volume, truth == truth.max())
    points = array_points(expected, truth, truth.max())
    np.testing.assert_allclose(nibabel_points(tmp_path / "m.nii.gz", 1), points, atol=1e-2)
    np.testing.assert_allclose(itk_points(tmp_path / "m.nii.gz", 1), points, atol=1e-2)


def test_the_series_agrees_with_simpleitk_and_its_masks_lie_on_it(tmp_path):
    files = sorted(original("totalsegmentator/example_ct_dicom").iterdir())
    volume = open_study(files[0].parent)
    assert volume.shape == (20, 512, 512)
    assert (volume.modality, volume.notes) == ("CT", ())
    study, series = generate_uid(), generate_uid()
    copies = []
    for file in files:  # these were stripped of what a reference needs
        made = pydicom.dcmread(file)
        made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = study, series, generate_uid()
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        copies.append(made)
    source = folder(tmp_path / "s", copies, [(7 * k) % 20 for k in range(20)])
    volume = open_study(source)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(source))
    image = sitk.ReadImage(names)
    np.testing.assert_allclose(np.diag([-1, -1, 1]) @ np.array(image.GetOrigin()), volume.affine[:3, 3], atol=1e-6)
    assert image.GetSpacing()[::-1] == pytest.approx(volume.spacing)
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.array)
    bone = volume.array > 300
    write_study_mask(tmp_path / "m.nii.gz", volume, bone)
    write_study_mask(tmp_path / "m.dcm", volume, bone, {1: "bone"})
    expected = array_points(volume, bone, 1)
    np.testing.assert_allclose(nibabel_points(tmp_path / "m.nii.gz", 1), expected, atol=1e-3)
    np.testing.assert_allclose(itk_points(tmp_path / "m.nii.gz", 1)[::997], expected[::997], atol=1e-3)
    read = hd.seg.segread(tmp_path / "m.dcm").get_volume(combine_segments=True)
    found = nib.affines.apply_affine(np.diag([-1, -1, 1, 1]) @ read.affine, np.argwhere(read.array == 1))
    np.testing.assert_allclose(found[np.lexsort(found.T)], expected, atol=1e-3)
    k = int(bone.sum(axis=(1, 2)).argmax())
    assert area_mm2(volume, volume.view(), bone[k]) == pytest.approx(bone[k].sum() * 0.9765625**2)
