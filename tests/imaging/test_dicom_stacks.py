"""Where DICOM slices lie: gaps, copies, several series, detectors, frames left out."""

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    UID,
)

from dfqsam.errors import InputError
from dfqsam.imaging import (
    area_mm2,
    millilitres,
    open_study,
    study_series,
    write_study_mask,
)
from tests.imaging.made import RGB, SECONDARY, affine_of, dataset, enhanced, folder, marked, one, placed, ramp


def test_missing_slices_are_said_and_measured_around(tmp_path):
    stack = ramp(7)
    series = [made for k, made in enumerate(placed(stack)) if k not in (2, 3)]
    volume = open_study(folder(tmp_path / "s", series))
    assert volume.notes == ("2 slices missing (steps of 2.50 mm, longer after slice 1).",)
    assert volume.positions == pytest.approx((0, 2.5, 10, 12.5, 15))
    full = np.ones(volume.shape, bool)
    # Slices 1 and 4 reach half-way into the gap: 2.5, 5, 5, 2.5, 2.5 mm.
    assert millilitres(volume, full) == pytest.approx(17.5 * 42 * 0.375 / 1000)
    one_slice = [millilitres(volume, full & (np.arange(5) == k)[:, None, None]) for k in range(5)]
    assert one_slice == pytest.approx(np.array([2.5, 5, 5, 2.5, 2.5]) * 42 * 0.375 / 1000)
    # A sagittal slice is cut by the same steps: 17.5 mm by 6 rows of 0.75 mm.
    assert area_mm2(volume, volume.view("sagittal"), np.ones(volume.view("sagittal").shape)) == pytest.approx(
        17.5 * 4.5
    )
    assert area_mm2(volume, volume.view(), full[0]) == pytest.approx(42 * 0.375)
    with pytest.raises(InputError, match="steps between slices differ"):
        write_study_mask(tmp_path / "m.nii", volume, full)
    write_study_mask(tmp_path / "m.dcm", volume, full)
    made = hd.seg.segread(tmp_path / "m.dcm")
    places = [g.PlanePositionSequence[0].ImagePositionPatient[2] for g in made.PerFrameFunctionalGroupsSequence]
    assert sorted(places) == pytest.approx([5, 7.5, 15, 17.5, 20])


def test_uneven_shifted_and_leaning_slices(tmp_path):
    def moved(name, offsets):
        series = placed(ramp())
        for made, offset in zip(series, offsets, strict=True):
            made.ImagePositionPatient = [float(a) + b for a, b in zip(made.ImagePositionPatient, offset, strict=True)]
        return open_study(folder(tmp_path / name, series))

    uneven = moved("u", [(0, 0, z) for z in (0, 0, 0.9, 0.9, 1.3)])
    assert uneven.notes == ("The steps between slices differ (2.50 to 3.40 mm).",)
    assert uneven.positions is not None
    shifted = moved("s", [(0, 0, 0), (0, 0, 0), (3, 0, 0), (0, 0, 0), (0, 0, 0)])
    assert shifted.notes == ("Slices are shifted against each other by up to 3.0 mm.",)
    leaning = moved("l", [(0, 0.5 * k, 0) for k in range(5)])
    assert len(leaning.notes) == 1
    assert "tilted gantry" in leaning.notes[0]
    assert leaning.positions is None
    sheared = affine_of("axial")
    sheared[1, 0] = -0.5
    np.testing.assert_allclose(leaning.affine, sheared, atol=1e-6)
    assert millilitres(leaning, np.ones(leaning.shape)) == pytest.approx(5 * 42 * 0.75 * 0.5 * 2.5 / 1000)
    write_study_mask(tmp_path / "m.nii", leaning, marked(leaning.shape))
    image = nib.load(tmp_path / "m.nii")
    np.testing.assert_allclose(image.affine, sheared[:, [2, 1, 0, 3]], atol=1e-5)
    assert int(image.header["qform_code"]) == 0


def test_copies_and_repetitions(tmp_path):
    series = placed(ramp())
    volume = open_study(folder(tmp_path / "c", [*series, series[2], series[0]]))
    assert volume.notes == ("2 files left out that are copies of others.",)
    assert np.array_equal(volume.array, ramp())
    again = placed(ramp()[:2] + 1000)
    for made in again:
        made.InstanceNumber = 50
    volume = open_study(folder(tmp_path / "d", [*again, *series]))
    assert volume.notes == ("2 images at a place already taken left out; the lowest number was kept.",)
    assert np.array_equal(volume.array, ramp())
    second = placed(ramp() + 500)
    for k, made in enumerate(second):
        made.InstanceNumber = 6 + k
    whole = folder(tmp_path / "t", [*second, *series])
    volume = open_study(whole)
    assert volume.notes == ("The series holds 2 images at every place; these are the first (volume 0).",)
    assert np.array_equal(volume.array, ramp())
    assert np.array_equal(open_study(whole, volume=1).array, ramp() + 500)
    with pytest.raises(InputError, match="There is no volume 2"):
        open_study(whole, volume=2)


def test_several_series_are_listed_and_one_is_chosen(tmp_path):
    first = placed(ramp())
    second = placed(ramp(2, 8, 9), "coronal", SeriesInstanceUID=UID("1.2.3.9"), SeriesNumber=7, Modality="MR")
    report = dataset(np.zeros((2, 2), np.uint8), Modality="SR", SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.88.11"))
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(report, keyword)
    place = folder(tmp_path / "s", [*second, report, *first])
    (place / "notes.txt").write_text("no DICOM")
    (place / "DICOMDIR").write_bytes(b"anything")
    with pytest.raises(InputError, match=r"2 series.*1: CT, 5 of 7 x 6; 2: MR, 2 of 9 x 8"):
        open_study(place)
    assert [(s.modality, s.images) for s in study_series(place)] == [("CT", 5), ("MR", 2)]
    assert open_study(place, series=2).modality == "MR"
    assert open_study(place, series=1).shape == (5, 6, 7)
    with pytest.raises(InputError, match="no series 3"):
        open_study(place, series=3)
    with pytest.raises(InputError, match="one file"):
        open_study(place / "file000", series=1)
    with pytest.raises(InputError, match="no picture but a DICOM object of another kind"):
        open_study(place / "file002")


def test_slices_that_make_no_stack_are_refused(tmp_path):
    mixed = [*placed(ramp())[:3], *placed(ramp(), "coronal")[:1]]
    with pytest.raises(InputError, match="different directions"):
        open_study(folder(tmp_path / "d", mixed))
    with pytest.raises(InputError, match=r"different sizes.*7 x 6, 8 x 6"):
        open_study(folder(tmp_path / "s", [*placed(ramp())[:2], *placed(ramp(3, 6, 8))[2:]]))
    with pytest.raises(InputError, match="pixel spacings"):
        open_study(folder(tmp_path / "p", [*placed(ramp())[:2], *placed(ramp(), spacing=(2.5, 2, 2))[2:]]))


def test_frames_without_places_are_a_stack_without_geometry(tmp_path):
    stack = ramp()
    made = dataset(stack[0], NumberOfFrames=5, SOPClassUID=UID(SECONDARY), Modality="US", PixelSpacing=[0.2, 0.3])
    made.PixelData = stack.tobytes()
    volume = open_study(one(tmp_path / "cine", made))
    assert np.array_equal(volume.array, stack)
    assert volume.affine is None
    assert volume.spacing == (None, 0.2, 0.3)
    assert len(volume.notes) == 2
    with pytest.raises(InputError, match="how thick"):
        millilitres(volume, np.ones(volume.shape))
    with pytest.raises(InputError, match="no axial plane"):
        volume.view("axial")
    with pytest.raises(InputError, match=r"write COCO JSON"):
        write_study_mask(tmp_path / "m.dcm", volume, marked(volume.shape))


def test_a_radiograph_is_measured_at_the_detector_and_segmented(tmp_path):
    picture = ramp(1, 20, 30)[0]
    made = dataset(
        picture, Modality="DX", ImagerPixelSpacing=[0.2, 0.1], SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.1.1")
    )
    volume = open_study(one(tmp_path / "x", made))
    assert volume.spacing == (None, 0.2, 0.1)
    assert any("at the detector" in note for note in volume.notes)
    mask = np.zeros(volume.shape, bool)
    mask[0, 3:9, 4:20] = True
    assert area_mm2(volume, volume.view(), mask[0]) == pytest.approx(6 * 16 * 0.02)
    assert volume.view().aspect == pytest.approx(2)
    write_study_mask(tmp_path / "m.dcm", volume, mask)
    assert np.array_equal(hd.seg.segread(tmp_path / "m.dcm").pixel_array, mask[0])
    write_study_mask(tmp_path / "m.nii", volume, mask)
    write_study_mask(tmp_path / "m.png", volume, mask)
    assert np.array_equal(open_study(tmp_path / "m.png").array[0, ..., 0] > 0, mask[0])


def test_an_ultrasound_is_measured_by_its_region(tmp_path):
    region = pydicom.Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3  # cm
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.01, 0.02
    made = dataset(RGB, Modality="US", SequenceOfUltrasoundRegions=[region])
    assert open_study(one(tmp_path / "us", made)).spacing == (None, 0.2, 0.1)
    other = pydicom.Dataset()
    other.PhysicalUnitsXDirection = other.PhysicalUnitsYDirection = 3
    other.PhysicalDeltaX = other.PhysicalDeltaY = 0.05
    made = dataset(RGB, Modality="US", SequenceOfUltrasoundRegions=[region, other])
    volume = open_study(one(tmp_path / "two", made))
    assert volume.spacing is None
    with pytest.raises(InputError, match="in pixels only"):
        area_mm2(volume, volume.view(), np.ones((6, 8)))


def test_an_enhanced_frame_left_out_stays_empty_in_the_segmentation(tmp_path):
    volume = open_study(one(tmp_path / "e", enhanced(ramp(), "sagittal", (4, 2, 0, 1, 3))))
    assert volume.source.frames == ((0, 2), (0, 3), (0, 1), (0, 4), (0, 0))
