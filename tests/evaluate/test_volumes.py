"""Volumes as cases: NIfTI in every orientation and plane, DICOM series with segmentations, and sizes in mm by hand."""

import json
import os
import shutil
from itertools import permutations, product
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from dfqsam.errors import InputError
from dfqsam.evaluate.measure import RESULTS, Settings, measure
from dfqsam.evaluate.models import open_models
from dfqsam.evaluate.rows import compare
from dfqsam.evaluate.samples import state
from dfqsam.evaluate.sources import open_data
from dfqsam.imaging import Window, open_study, write_study_mask
from tests.evaluate.world import toy_bundle
from tests.imaging.made import PLANES, enhanced, folder, placed, ramp, written

ORIGINALS = Path(os.environ.get("DFQSAM_DATA", Path(__file__).parents[3] / "shared" / "data")) / "originals"
# Steps to the right, front and head in mm, and what a pixel then is in the slices across the longest of them: height
# and width. A picture's rows run to the foot, in an axial one to the back.
STEPS = {
    "axial": ((0.5, 0.75, 2.5), (0.75, 0.5)),
    "coronal": ((0.5, 2.5, 0.75), (0.75, 0.5)),
    "sagittal": ((2.5, 0.5, 0.75), (0.75, 0.5)),
}
ORIENTATIONS = ["".join(codes) for order in permutations(("LR", "PA", "IS")) for codes in product(*order)]


def nifti_pair(place: Path, steps: tuple[float, float, float], codes: str = "RAS") -> np.ndarray:
    """9 x 10 x 11 voxels with one object, both saved in an orientation; gives the object, right-front-head."""
    rng = np.random.default_rng(0)
    labels = np.zeros((9, 10, 11), np.int16)
    labels[2:5, 3:7, 4:9] = 1
    for kind, values in (("images", rng.integers(0, 900, labels.shape).astype(np.int16)), ("masks", labels)):
        image = nibabel.Nifti1Image(values, np.diag([*steps, 1.0]))
        turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
        (place / kind).mkdir(parents=True, exist_ok=True)
        nibabel.save(turned, place / kind / "p1.nii")
    return labels


def series(place: Path, plane: str = "axial", name: str = "p1", **values) -> Path:
    """A DICOM series of 5 slices of 6 x 7 in ``images/NAME``, 2.5 mm apart, pixels of 0.75 x 0.5 mm."""
    (place / "masks").mkdir(parents=True, exist_ok=True)
    return folder(place / "images" / name, placed(ramp(), plane, **values), (3, 0, 4, 1, 2))


def drawn(shape: tuple[int, int, int] = (5, 6, 7)) -> np.ndarray:
    """Label 1 on slices 1 and 2, label 2 on slice 3."""
    mask = np.zeros(shape, np.uint8)
    mask[1:3, 2:5, 1:3], mask[3, 1, 5] = 1, 2
    return mask


def lines(shape: tuple[int, int], axis: int, apart: int) -> tuple[np.ndarray, np.ndarray]:
    """Two straight lines from side to side, ``apart`` rows (axis 0) or columns (1) from each other."""
    one, other = np.zeros((2, *shape), bool)
    if axis == 0:
        one[1], other[1 + apart] = True, True
    else:
        one[:, 1], other[:, 1 + apart] = True, True
    return one, other


def check_distances(sample, height: float, width: float, thickness: float) -> None:
    """Lines that lie n pixels apart are n times the size of a pixel apart, everywhere: HD95 is that, and surface Dice
    at 2 mm is 1 or 0."""
    shape = sample.reference().shape
    assert (sample.spacing, sample.thickness) == (pytest.approx((height, width)), pytest.approx(thickness))
    assert sample.picture().shape == (*shape, 3)
    for axis, apart, mm in ((0, 2, 2 * height), (0, 3, 3 * height), (1, 3, 3 * width), (1, 5, 5 * width)):
        one, other = lines(shape, axis, apart)
        row = compare(sample, "exact", other, one, one)
        assert row.unit == "mm"
        assert row.hd95_fp == row.agreement_hd95 == pytest.approx(mm)
        assert row.hd95_q == 0
        assert row.nsd_fp == row.agreement_nsd == (1 if mm <= 2 else 0)
        area = (shape[1] if axis == 0 else shape[0]) * height * width
        assert row.area_ref == pytest.approx(area)
        assert row.volume_ref == pytest.approx(area * thickness)


@pytest.mark.parametrize("plane", STEPS)
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL", "ARI"])
def test_distances_of_anisotropic_volumes_are_in_mm_in_every_plane(tmp_path, plane, codes):
    steps, (height, width) = STEPS[plane]
    nifti_pair(tmp_path, steps, codes)
    found = open_data(tmp_path)
    check_distances(found[0], height, width, 2.5)


@pytest.mark.parametrize("plane", STEPS)
def test_every_orientation_gives_the_same_cases(tmp_path, plane):
    steps, _ = STEPS[plane]
    labels = nifti_pair(tmp_path / "RAS", steps)
    first = open_data(tmp_path / "RAS")
    across = int(np.argmax(steps))
    assert len(first) == int(labels.any(axis=tuple({0, 1, 2} - {across})).sum())
    assert sum(int(sample.reference().sum()) for sample in first) == int(labels.sum())
    # By hand: the object from its cut through the volume, head or front above and the right or front on the left.
    cut = labels.take(int(np.flatnonzero(labels.any(axis=tuple({0, 1, 2} - {across})))[0]), across)
    assert np.array_equal(first[0].reference(), cut.T[::-1, ::-1] == 1)
    assert len(ORIENTATIONS) == 48
    for codes in ORIENTATIONS:
        nifti_pair(tmp_path / codes, steps, codes)
        found = open_data(tmp_path / codes)
        if found[0].reference().tobytes() + found[0].picture().tobytes() != (
            first[0].reference().tobytes() + first[0].picture().tobytes()
        ):
            found = found[::-1]  # stored, and so counted, from the other end
        assert len(found) == len(first)
        for one, other in zip(found, first, strict=True):
            assert np.array_equal(one.picture(), other.picture())
            assert np.array_equal(one.reference(), other.reference())
            assert one.spacing == pytest.approx(other.spacing)
            assert one.thickness == pytest.approx(other.thickness)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("multi_frame", [False, True], ids=["series", "enhanced"])
def test_a_dicom_series_with_a_segmentation(tmp_path, plane, multi_frame):
    series(tmp_path, plane)
    if multi_frame:
        shutil.rmtree(tmp_path / "images" / "p1")
        folder(tmp_path / "images" / "p1", [enhanced(ramp(), plane, (3, 0, 4, 1, 2))])
    volume = open_study(tmp_path / "images" / "p1")
    write_study_mask(tmp_path / "masks" / "p1.dcm", volume, drawn(), {1: "liver", 2: "cyst"})
    found = open_data(tmp_path)
    assert [(sample.view, sample.label, sample.modality, sample.patient) for sample in found] == [
        ("p1#00001", "liver", "CT", "p1"),
        ("p1#00002", "liver", "CT", "p1"),
        ("p1#00003", "cyst", "CT", "p1"),
    ]
    for k, sample in enumerate(found, 1):
        assert np.array_equal(sample.picture(), volume.picture(k))
        assert np.array_equal(sample.reference(), drawn()[k] > 0)
    check_distances(found[0], 0.75, 0.5, 2.5)


def test_masks_of_a_series_may_be_nifti_and_lie_in_folders_of_their_own(tmp_path):
    volume = open_study(series(tmp_path))
    mask = drawn()
    write_study_mask(tmp_path / "masks" / "p1__liver.nii.gz", volume, mask == 1)
    write_study_mask(tmp_path / "masks" / "p1__cyst.dcm", volume, mask == 2, {1: "Segment_1"})
    names = [(sample.key, sample.label, int(sample.reference().sum())) for sample in open_data(tmp_path)]
    assert names == [("p1#00001#liver", "liver", 6), ("p1#00002#liver", "liver", 6), ("p1#00003#cyst", "cyst", 1)]
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / "masks" / "p1").mkdir(parents=True)
    write_study_mask(tmp_path / "masks" / "p1" / "1.2.840.7.dcm", volume, mask, {1: "liver", 2: "cyst"})
    assert [sample.label for sample in open_data(tmp_path)] == ["liver", "liver", "cyst"]


def test_archives_and_series_below_their_patients(tmp_path):
    one, two = series(tmp_path, name="p1/venous"), series(tmp_path, name="p1/late")
    series(tmp_path, name="flat")
    shutil.make_archive(str(tmp_path / "images" / "packed"), "zip", tmp_path / "images" / "flat")
    shutil.rmtree(tmp_path / "images" / "flat")
    (tmp_path / "masks" / "p1").mkdir()
    write_study_mask(tmp_path / "masks" / "p1" / "venous.dcm", open_study(one), drawn() == 1)
    write_study_mask(tmp_path / "masks" / "p1" / "late.nii", open_study(two), drawn() == 1)
    write_study_mask(tmp_path / "masks" / "packed.nii", open_study(one), drawn() == 1)
    found = [(sample.view, sample.patient) for sample in open_data(tmp_path)]
    assert found == [
        *((f"p1/late#{k:05d}", "p1") for k in (1, 2)),
        *((f"p1/venous#{k:05d}", "p1") for k in (1, 2)),
        *((f"packed#{k:05d}", "packed") for k in (1, 2)),
    ]


def test_single_pictures_in_dicom_have_pictures_as_masks(tmp_path):
    """Radiographs: each file of a folder is an image of its own, as masks have the names of files."""
    for name in ("images/p1", "masks/p1"):
        (tmp_path / name).mkdir(parents=True)
    for name, made in zip(("a.dcm", "b.dcm"), placed(ramp(2), Modality="DX"), strict=True):
        (tmp_path / "images" / "p1" / name).write_bytes(written(made))
        cv2.imwrite(str(tmp_path / "masks" / "p1" / name.replace("dcm", "png")), drawn()[1] * 255)
    found = open_data(tmp_path)
    assert [(sample.view, sample.modality, sample.patient) for sample in found] == [
        ("p1/a#00000", "DX", "p1"),
        ("p1/b#00000", "DX", "p1"),
    ]
    assert [int(sample.reference().sum()) for sample in found] == [6, 6]


def test_a_dataset_json_may_list_series(tmp_path):
    volume = open_study(series(tmp_path))
    write_study_mask(tmp_path / "masks" / "p1.dcm", volume, drawn(), {1: "one", 2: "two"})
    document = {"labels": {"1": "liver"}, "training": [{"image": "images/p1", "label": "masks/p1.dcm", "patient": "A"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    found = open_data(tmp_path)
    assert [(sample.label, sample.modality, sample.patient) for sample in found] == [
        ("liver", "CT", "A"),
        ("liver", "CT", "A"),
        ("label 2", "CT", "A"),
    ]
    assert np.array_equal(found[0].picture(), volume.picture(1))


def test_windows_are_those_of_the_file_unless_asked_for(tmp_path):
    volume = open_study(series(tmp_path, WindowCenter=100, WindowWidth=100))
    write_study_mask(tmp_path / "masks" / "p1.dcm", volume, drawn() == 1)
    first = open_data(tmp_path)[0].picture()[..., 0]
    # Slice 1 holds 42 to 83, row by row; PS3.3 C.11.2.1.2: (83 - 99.5) / 99 + 0.5 of 255.
    assert (first[0, 0], first[-1, -1]) == (0, round(((83 - 99.5) / 99 + 0.5) * 255))
    wished = open_data(tmp_path, window=(62.5, 41))[0].picture()[..., 0]
    assert (wished[0, 0], wished[-1, -1]) == (0, 255)  # level and width: from 42 to 83


def test_slices_that_are_missing_have_their_neighbours_thickness(tmp_path):
    made = [one for k, one in enumerate(placed(ramp(7))) if k not in (2, 3)]  # at 0, 2.5, 10, 12.5 and 15 mm
    (tmp_path / "masks").mkdir()
    volume = open_study(folder(tmp_path / "images" / "p1", made))
    write_study_mask(tmp_path / "masks" / "p1.dcm", volume, drawn() == 1)
    assert [sample.thickness for sample in open_data(tmp_path)] == pytest.approx([5.0, 5.0])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f, v: (f / "masks" / "p1.dcm").unlink(), "p1 has no mask of that name"),
        (lambda f, v: write_study_mask(f / "masks" / "p2.dcm", v, drawn()), "has no image of that name"),
        (lambda f, v: (f / "images" / "p1" / "file002").write_bytes(b"\0" * 128 + b"DICM"), "p1: file002 is cut short"),
        (lambda f, v: folder(f / "images" / "p1" / "more", placed(ramp(), SeriesInstanceUID="1.9")), "2 series"),
        (lambda f, v: write_study_mask(f / "images" / "p1.nii", v, drawn()), "have one name"),
        (
            lambda f, v: (f / "masks" / "p1.dcm").write_bytes((f / "images" / "p1" / "file001").read_bytes()),
            "p1.dcm covers",
        ),
    ],
)
def test_bad_series_get_one_sentence(tmp_path, spoil, words):
    volume = open_study(series(tmp_path))
    write_study_mask(tmp_path / "masks" / "p1.dcm", volume, drawn())
    assert len(open_data(tmp_path)) == 3
    spoil(tmp_path, volume)
    with pytest.raises(InputError, match=words) as error:
        open_data(tmp_path)
    assert "\n" not in str(error.value)


def test_a_reference_that_covers_a_part_only_is_refused(tmp_path):
    """Outside of it nothing was drawn, so a model would be blamed for what is right."""
    nifti_pair(tmp_path, STEPS["axial"][0])
    path = tmp_path / "masks" / "p1.nii"
    part = nibabel.load(path).slicer[:, :, 2:]
    nibabel.save(nibabel.Nifti1Image(np.asarray(part.dataobj), part.affine), path)
    with pytest.raises(InputError, match=r"covers \(9, 10, 9\) voxels, the study has \(11, 10, 9\); they differ"):
        open_data(tmp_path)


def test_a_slice_that_changed_is_noticed(tmp_path):
    place = series(tmp_path)
    before = state(place)
    (place / "file001").write_bytes((place / "file001").read_bytes() + b"\0\0")
    assert state(place) != before
    with pytest.raises(InputError, match="cannot be read"):
        state(tmp_path / "none")


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the volumes are not in ../shared/data/originals")
def test_a_real_series_with_a_mask_of_its_bones(tmp_path):
    """20 slices of a CT, JPEG 2000; those who made them public took the study's identifier, so no SEG can be made."""
    place = tmp_path / "images" / "p1"
    shutil.copytree(ORIGINALS / "totalsegmentator" / "example_ct_dicom", place)
    volume = open_study(place)
    bones = volume.array > 300
    (tmp_path / "masks").mkdir()
    write_study_mask(tmp_path / "masks" / "p1__bone.nii.gz", volume, bones)
    found = open_data(tmp_path)
    assert sum(int(sample.reference().sum()) for sample in found) == int(bones.sum())
    assert {(sample.label, sample.modality) for sample in found} == {("bone", "CT")}
    assert volume.spacing is not None
    assert {sample.spacing for sample in found} == {volume.spacing[1:]}
    assert np.array_equal(found[3].picture(), volume.picture(int(np.flatnonzero(bones.any(axis=(1, 2)))[3])))


def two_series(place: Path) -> Path:
    """A folder with two series of one size at one place; the second has other values, and the mask refers to it."""
    first = series(place, SeriesNumber=1)
    other = placed(500 - ramp(), SeriesInstanceUID="1.2.3.9", SeriesNumber=2)
    folder(first / "b", other)
    write_study_mask(place / "masks" / "p1.dcm", open_study(first, 2), drawn())
    return first


def test_of_several_series_the_chosen_one_is_measured(tmp_path):
    place = two_series(tmp_path)
    with pytest.raises(InputError, match=r"holds 2 series; choose one by its number: 1: CT, 5 of 7 x 6; 2: CT"):
        open_data(tmp_path)
    found = open_data(tmp_path, series=2, window=(250, 600))
    assert np.array_equal(found[0].picture()[..., 0], Window(250, 600, "LINEAR_EXACT").apply(500 - ramp()[1]))
    other = open_data(tmp_path, series=1, window=(250, 600))
    assert np.array_equal(other[0].picture()[..., 0], Window(250, 600, "LINEAR_EXACT").apply(ramp()[1]))
    assert {sample.shown for sample in found}.isdisjoint({sample.shown for sample in other})
    (tmp_path / "patients.csv").write_text("image,patient,series\np1,A,2\n")
    listed = open_data(tmp_path, series=1, window=(250, 600))
    assert np.array_equal(listed[0].picture(), found[0].picture())
    (tmp_path / "patients.csv").write_text("image,patient,series\np1,A,second\n")
    with pytest.raises(InputError, match=r"has the series 'second' of p1; give a number from 1 on"):
        open_data(tmp_path)
    assert place.is_dir()


def test_another_window_is_measured_anew(tmp_path):
    """What was measured in one window must not be taken for another."""
    volume = open_study(series(tmp_path / "data"))
    write_study_mask(tmp_path / "data" / "masks" / "p1.dcm", volume, drawn())
    models = open_models(toy_bundle(tmp_path / "bundle", 4).path)
    lines = []
    for window in ((42, 84), (5000, 84), (42, 84)):
        measure(models, open_data(tmp_path / "data", window=window), Settings(("exact",)), tmp_path / "out", 1)
        lines.append(len((tmp_path / "out" / RESULTS).read_bytes().splitlines()))
    assert lines == [1 + 3, 1 + 6, 1 + 6]
