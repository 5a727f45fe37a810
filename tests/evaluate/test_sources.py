import gzip
import json
import os
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.evaluate.sources import open_data
from tests.evaluate.world import square

ORIGINALS = Path(os.environ.get("DFQSAM_DATA", Path(__file__).parents[3] / "shared" / "data")) / "originals"


def picture(path: Path, value: int = 90, shape: tuple[int, ...] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full(shape, value, np.uint8))


def mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def test_pictures_and_masks_match_by_name(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    mask(tmp_path / "masks" / "a.png", square())
    picture(tmp_path / "images" / "b.tiff")
    mask(tmp_path / "masks" / "b__liver.png", square(0, 0, 5))
    mask(tmp_path / "masks" / "b__spleen.png", square(9, 9, 5) // 255)
    (tmp_path / "images" / ".DS_Store").write_text("x")
    (tmp_path / "images" / "notes.txt").write_text("x")
    found = open_data(tmp_path)
    assert [(sample.view, sample.label, sample.patient) for sample in found] == [
        ("images/a.jpg", "", "a"),
        ("images/b.tiff", "liver", "b"),
        ("images/b.tiff", "spleen", "b"),
    ]
    assert found[2].reference().sum() == 25
    assert found[0].picture().shape == (64, 64, 3)
    assert [sample.label for sample in open_data(tmp_path, labels=["liver"])] == ["liver"]
    with pytest.raises(InputError, match="no object 'lung'; it has '', 'liver', 'spleen'"):
        open_data(tmp_path, labels=["lung"])


def test_a_map_of_labels_has_an_object_for_each(tmp_path):
    picture(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", square() // 255 + 2 * (square(45, 45, 10) // 255))
    one, two = open_data(tmp_path)
    assert (one.label, two.label) == ("label 1", "label 2")
    assert (one.reference().sum(), two.reference().sum()) == (400, 100)
    assert one.view == two.view


def test_patients_are_told_by_a_table_or_by_folders(tmp_path):
    for name in ("p1/x", "p1/y", "p2/x"):
        picture(tmp_path / "images" / f"{name}.png")
        mask(tmp_path / "masks" / f"{name}.png", square())
    assert [sample.patient for sample in open_data(tmp_path)] == ["p1", "p1", "p2"]
    table = tmp_path / "patients.csv"
    table.write_text("image,patient\np1/x.png,A\np1/y,B\np2/x.png,A\n")
    assert [sample.patient for sample in open_data(tmp_path)] == ["A", "B", "A"]
    table.write_text("image,patient\np1/x.png,A\n")
    with pytest.raises(InputError, match="does not name the image p1/y"):
        open_data(tmp_path)
    table.write_text("image,person\np1/x.png,A\n")
    with pytest.raises(InputError, match="columns image and patient"):
        open_data(tmp_path)


def test_masks_with_soft_edges_are_cut_at_half(tmp_path):
    picture(tmp_path / "images" / "a.png")
    soft = square(10, 10, 30)
    soft[10, 10:40] = 100
    soft[39, 10:40] = 200
    mask(tmp_path / "masks" / "a.png", soft)
    assert open_data(tmp_path)[0].reference().sum() == 29 * 30


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: mask(f / "masks" / "b.png", square()), "has no image of that name"),
        (lambda f: picture(f / "images" / "b.png"), "has no mask of that name"),
        (lambda f: picture(f / "images" / "a.jpg"), "have one name"),
        (lambda f: mask(f / "masks" / "a.png", np.dstack([square()] * 2 + [square(1)])), "is coloured"),
        (lambda f: mask(f / "masks" / "a.png", np.repeat(np.arange(64, dtype=np.uint8)[None] * 3, 64, 0)), "values"),
        (lambda f: mask(f / "masks" / "a.png", np.zeros((64, 64), np.uint8)), "every reference mask is empty"),
        (lambda f: (f / "masks" / "a.png").write_bytes(b"no picture"), "no PNG, JPEG or TIFF"),
        (lambda f: (f / "masks" / "a.png").unlink(), "has no mask of that name"),
    ],
)
def test_what_does_not_match_gets_one_sentence(tmp_path, spoil, words):
    picture(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", square())
    spoil(tmp_path)
    with pytest.raises(InputError, match=words) as error:
        open_data(tmp_path)
    assert "\n" not in str(error.value)


def test_an_unknown_layout_is_told_what_is_known(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.csv, a dataset\.json .* images and masks"):
        open_data(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_data(tmp_path / "none")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="files in its folders images and masks"):
        open_data(tmp_path)


def volume(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


AFFINE = np.diag([0.5, 0.8, 3.0, 1.0])


def pair(folder: Path, name: str = "p1", affine: np.ndarray = AFFINE, turn=lambda v: v) -> None:
    """20 x 30 x 6 voxels, right-front-head; two objects, in slices 1 to 3 and in slice 4."""
    rng = np.random.default_rng(0)
    labels = np.zeros((20, 30, 6), np.int16)
    labels[2:8, 5:25, 1:4] = 1
    labels[10:14, 10:14, 4] = 3
    volume(folder / "images" / f"{name}.nii.gz", turn(rng.integers(0, 900, labels.shape).astype(np.int16)), affine)
    volume(folder / "masks" / f"{name}.nii.gz", turn(labels), affine)


def test_slices_of_volumes_are_cases_with_sizes_in_mm(tmp_path):
    pair(tmp_path)
    found = open_data(tmp_path)
    assert [(sample.view, sample.label) for sample in found] == [
        ("p1#00001", "label 1"),
        ("p1#00002", "label 1"),
        ("p1#00003", "label 1"),
        ("p1#00004", "label 3"),
    ]
    first = found[0]
    assert (first.patient, first.unit, first.thickness) == ("p1", "mm", 3)
    assert first.spacing == pytest.approx((0.8, 0.5))
    assert first.picture().shape == (30, 20, 3)
    rows, columns = np.nonzero(first.reference())
    # The front is above and the patient's right on the left; from front to back 5 to 24 is the same turned round.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 24, 12, 17)
    assert len(open_data(tmp_path, slices=1)) == 2


def test_turned_volumes_give_the_same_slices(tmp_path):
    pair(tmp_path / "a")
    turned = AFFINE[:, [2, 0, 1, 3]] @ np.diag([1, -1, 1, 1])
    turned[:3, 3] = -turned[:3, 1] * 19
    pair(tmp_path / "b", affine=turned, turn=lambda v: v.transpose(2, 0, 1)[:, ::-1])
    for one, other in zip(open_data(tmp_path / "a"), open_data(tmp_path / "b"), strict=True):
        assert np.array_equal(one.picture(), other.picture())
        assert np.array_equal(one.reference(), other.reference())
        assert one.spacing == pytest.approx(other.spacing)
        assert one.thickness == pytest.approx(other.thickness)


def test_slices_are_cut_across_the_coarsest_axis(tmp_path):
    pair(tmp_path, affine=np.diag([4.0, 0.8, 0.8, 1.0]))
    assert open_data(tmp_path)[0].picture().shape == (6, 30, 3)
    assert open_data(tmp_path)[0].thickness == 4


def test_windows_follow_the_modality_or_the_wish(tmp_path):
    values = np.zeros((8, 8, 2), np.float32)
    values[0, 0], values[1, 0], values[2, 0], values[3, 0] = -1000, -160, 40, 240
    labels = np.ones((8, 8, 2), np.uint8)
    volume(tmp_path / "images" / "ct.nii", values, AFFINE)
    volume(tmp_path / "masks" / "ct.nii", labels, AFFINE)
    row = open_data(tmp_path)[0].picture()[-1, ::-1, 0]
    assert row[:4].tolist() == [0, 0, 128, 255]  # soft tissue: level 40, width 400
    row = open_data(tmp_path, window=(-500, 1000))[0].picture()[-1, ::-1, 0]
    assert row[:4].tolist() == [0, 214, 255, 255]


def test_a_dataset_json_of_decathlon_or_nnunet(tmp_path):
    pair(tmp_path)
    document = {
        "name": "Spleens",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "spleen", "3": "cyst"},
        "training": [{"image": "./images/p1.nii.gz", "label": "./masks/p1.nii.gz"}],
        "test": ["./images/p1.nii.gz"],
    }
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(document))
    found = open_data(tmp_path)
    assert {(sample.dataset, sample.modality, sample.label) for sample in found} == {
        ("Spleens", "MRI", "spleen"),
        ("Spleens", "MRI", "cyst"),
    }
    assert {sample.patient for sample in open_data(path)} == {"./images/p1.nii.gz"}
    document["labels"] = {"background": 0, "spleen": 1, "cyst": 3}
    path.write_text(json.dumps(document))
    assert {sample.label for sample in open_data(path)} == {"spleen", "cyst"}
    for wrong, words in (("[]", "lists no image"), ("{", "no valid JSON"), ('{"training": [{"label": 5}]}', "entry")):
        path.write_text(wrong)
        with pytest.raises(InputError, match=words):
            open_data(path)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: volume(f / "masks" / "p1.nii.gz", np.ones((20, 30, 5), np.uint8), AFFINE), "they differ"),
        (lambda f: volume(f / "masks" / "p1.nii.gz", np.ones((20, 30, 6), np.uint8), np.eye(4)), "elsewhere in space"),
        (lambda f: volume(f / "masks" / "p1.nii.gz", np.full((20, 30, 6), 0.5, np.float32), AFFINE), "whole numbers"),
        (lambda f: volume(f / "images" / "p1.nii.gz", np.ones((20, 30), np.uint8), AFFINE), "three axes"),
        (lambda f: cut(f / "masks" / "p1.nii.gz"), "damaged or cut short"),
        (lambda f: (f / "masks" / "p1.nii.gz").write_bytes(b"nothing"), "cannot be read as NIfTI"),
        (lambda f: (f / "masks" / "p1.nii.gz").unlink(), "has no mask of that name"),
    ],
)
def test_bad_volumes_get_one_sentence(tmp_path, spoil, words):
    pair(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=words) as error:
        open_data(tmp_path)
    assert "\n" not in str(error.value)


def test_a_volume_that_claims_to_be_huge_is_refused_by_its_header(tmp_path):
    pair(tmp_path)
    header = nibabel.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 500))
    header.set_data_dtype(np.uint8)
    header["vox_offset"] = 352
    (tmp_path / "images" / "p1.nii.gz").unlink()
    (tmp_path / "images" / "p1.nii").write_bytes(header.binaryblock + b"\0" * 8)
    with pytest.raises(InputError, match="the limit is 256 million"):
        open_data(tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    pair(folder)
    for kind in ("images", "masks"):
        path = folder / kind / "p1.nii.gz"
        (folder / kind / "p1.nii").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    return folder


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_no_damaged_volume_gets_past_its_sentence(plain, data):
    path = plain / data.draw(st.sampled_from(["images", "masks"])) / "p1.nii"
    original = path.read_bytes()
    spoilt = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, 347))] = data.draw(st.integers(0, 255))  # in the header
    path.write_bytes(spoilt[: data.draw(st.sampled_from([None, None, 100, 348, 400]))])
    said = ""
    try:
        for sample in open_data(plain, slices=1):
            assert sample.picture().shape[:2] == sample.reference().shape
    except InputError as error:
        said = str(error)
    finally:
        path.write_bytes(original)
    assert "\n" not in said


def test_boxes_stand_in_for_masks(tmp_path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.png")
    table = tmp_path / "boxes.csv"
    table.write_text("image,x0,y0,x1,y1,patient\nb.png,1,2,30,40,P\na.png,5,5,9,9,P\n")
    one, two = open_data(tmp_path, boxes=table)
    assert (one.view, one.box, one.patient, one.reference) == ("a.png", (5, 5, 9, 9), "P", None)
    assert two.box == (1, 2, 30, 40)
    for text, words in (
        ("image,x0,y0,x1\na.png,1,2,3\n", "no column y1"),
        ("image,x0,y0,x1,y1\na.png,1,2,3,wide\n", "line 2: the box needs a number"),
        ("image,x0,y0,x1,y1\nc.png,1,2,3,4\n", "no picture"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=words):
            open_data(tmp_path, boxes=table)


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the volumes are not in ../shared/data/originals")
def test_a_real_spinal_cord_is_sliced_as_radiologists_see_it(tmp_path):
    folder = ORIGINALS / "sct" / "t2s"
    for kind, name in (("images", "t2s_uncropped.nii.gz"), ("masks", "t2s_uncropped_gmseg_manual.nii.gz")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "t2s.nii.gz").write_bytes((folder / name).read_bytes())
    found = open_data(tmp_path)
    image = nibabel.load(folder / "t2s_uncropped.nii.gz")
    # The file's sform and its voxel sizes, both in 32 bits, differ in the eighth digit.
    step = pytest.approx(float(max(image.header.get_zooms()[:3])), rel=1e-6)
    assert [sample.thickness for sample in found] == [step] * len(found)
    first = found[0]
    assert first.picture().shape[:2] == first.reference().shape
    mask_volume = np.asarray(nibabel.load(folder / "t2s_uncropped_gmseg_manual.nii.gz").dataobj)
    assert sum(int(sample.reference().sum()) for sample in found) == int((mask_volume > 0).sum())
