"""A reference mask beside a study: Dice by hand, labels, planes, and masks that do not fit."""

import io

import cv2
import nibabel as nib
import numpy as np
import pytest

from dfqsam.app import display, reference
from dfqsam.app.compare import Pair
from dfqsam.app.models import Answer
from dfqsam.errors import InputError
from dfqsam.imaging import Volume, open_uploads
from tests.imaging import made

AFFINE = np.array([[-0.4, 0, 0, 9], [0, -0.8, 0, 7], [0, 0, 3, -4], [0, 0, 0, 1]])
SHIFTED = np.array([[-0.4, 0, 0, 9.2], *AFFINE[1:]])  # by half a voxel
SHAPE = (8, 6, 3)  # i, j, k


def packed(data: np.ndarray, affine: np.ndarray = AFFINE) -> bytes:
    return nib.Nifti1Image(data, affine).to_bytes()


@pytest.fixture(scope="module")
def volume() -> Volume:
    return open_uploads({"v.nii": packed(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))})


def labels() -> np.ndarray:
    data = np.zeros(SHAPE, np.uint8)
    data[1:4, 2:4, 1] = 1
    data[5:7, 0:2, 1] = 4
    return data


def pair(quantized: np.ndarray, full: np.ndarray | None) -> Pair:
    return Pair(Answer(quantized, 0.1, 0.1), None if full is None else Answer(full, 0.1, 0.1))


def test_dice_of_each_model_is_that_of_the_slice(volume):
    found = reference.load("m.nii", packed(labels()), volume)
    assert found.labels == (1, 4)
    view = volume.view("axial")
    mask = found.on(1, view, 1)
    # i runs to the right and j to the back as the picture's columns and rows do: 3 columns by 2 rows.
    assert np.array_equal(np.argwhere(mask), [[row, column] for row in (2, 3) for column in (1, 2, 3)])
    full = np.zeros(mask.shape, bool)
    full[2:4, 1:3] = True  # 4 pixels, all inside the 6: Dice 8 / 10
    quantized = np.zeros(mask.shape, bool)
    quantized[2:4, 3:5] = True  # 4 pixels, 2 of them inside: Dice 4 / 10
    assert reference.agreement(mask, pair(quantized, full)) == (0.8, 0.4)
    assert reference.agreement(mask, pair(quantized, None)) == (None, 0.4)
    assert found.on(1, view).sum() == 10
    assert not found.on(0, view).any()
    assert reference.agreement(found.on(0, view), pair(quantized, full)) == (None, None)


def test_a_reference_is_seen_in_every_plane_of_the_study(volume):
    found = reference.load("m.nii", packed(labels()), volume)
    for plane in ("axial", "coronal", "sagittal"):
        view = volume.view(plane)
        assert sum(int(found.on(k, view).sum()) for k in range(view.count)) == 10
        assert found.on(0, view).shape == view.shape


def test_a_flipped_mask_of_the_same_grid_fits(volume):
    turned = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    found = reference.load("m.nii", packed(labels()[::-1].copy(), turned), volume)
    assert np.array_equal(found.voxels, reference.load("m.nii", packed(labels()), volume).voxels)


@pytest.mark.parametrize(
    ("data", "affine", "words"),
    [
        (np.zeros((8, 6, 4), np.uint8), AFFINE, r"m.nii covers \(4, 6, 8\) voxels, the study has \(3, 6, 8\)"),
        (np.zeros((8, 6, 2), np.uint8), AFFINE, r"m.nii covers \(2, 6, 8\) voxels, the study has \(3, 6, 8\)"),
        (labels(), SHIFTED, "m.nii lies on another grid than the study"),
        (labels(), AFFINE * [1, 1, 1.2, 1], "m.nii lies on another grid than the study"),
        (labels().astype(np.float32) / 2, AFFINE, "m.nii holds values that are no labels"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_sentence(volume, data, affine, words):
    with pytest.raises(InputError, match=words):
        reference.load("m.nii", packed(data, affine), volume)


def test_a_png_fits_a_picture_of_its_size():
    picture = np.full((20, 30, 3), 90, np.uint8)
    study = open_uploads({"p.png": cv2.imencode(".png", picture)[1].tobytes()})
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 3:7] = 255
    found = reference.load("m.png", cv2.imencode(".png", mask)[1].tobytes(), study)
    assert np.array_equal(found.on(0, study.view()), mask > 0)
    assert len(found.labels) == 1
    with pytest.raises(InputError, match=r"m.png has shape \(1, 20, 29\); the study has \(1, 20, 30\)"):
        reference.load("m.png", cv2.imencode(".png", mask[:, 1:])[1].tobytes(), study)


def test_a_file_that_is_no_mask_is_one_sentence(volume):
    for data in (b"", b"nothing", io.BytesIO(b"\x89PNG\r\n\x1a\n").getvalue()):
        with pytest.raises(InputError):
            reference.load("m.png", data, volume)


def test_a_mask_that_covers_a_part_is_refused_as_a_reference_only(volume):
    from dfqsam.imaging import read_uploaded_mask

    part = packed(labels()[:, :, :2])
    assert read_uploaded_mask("m.nii", part, volume).sum() == labels().sum()
    with pytest.raises(InputError, match="redraw it"):
        read_uploaded_mask("m.nii", part, volume, whole=True)


def test_its_outline_is_drawn_where_prompts_are(volume):
    mask = reference.load("m.nii", packed(labels()), volume).on(1, volume.view("axial"))
    named = display.panels([pair(mask, mask)], True, "Quantized (w8a8)")
    shown = reference.drawn(named, mask)
    assert [len(panel["layers"]) for panel in shown] == [2, 2, 3]
    assert shown[0]["layers"][-1]["runs"] == display.runs(mask)
    assert shown[0]["layers"][-1]["line"] is True
    assert shown[2] == named[2]
    assert [len(panel["layers"]) for panel in named] == [1, 1, 3], "the panels given were changed"


def test_a_dicom_segmentation_fits_its_series(tmp_path):
    from dfqsam.imaging import open_study, write_study_mask

    made.folder(tmp_path / "series", made.placed(np.full((3, 16, 16), 700, np.uint16)))
    study = open_study(tmp_path / "series")
    mask = study.empty_mask()
    mask[1, 3:6, 4:9] = 1
    write_study_mask(tmp_path / "m.dcm", study, mask)
    found = reference.load("m.dcm", (tmp_path / "m.dcm").read_bytes(), study)
    assert np.array_equal(found.voxels, mask)
