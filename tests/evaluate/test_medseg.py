import csv

import cv2
import numpy as np
import pytest
import skimage.data

from dfqsam.errors import InputError
from dfqsam.evaluate.medseg import cases, samples
from dfqsam.evaluate.metrics import dice
from dfqsam.evaluate.sources import open_data
from dfqsam.evaluate.summary import mean_over_sets
from tests.evaluate.world import square, write_manifest


@pytest.fixture
def folder(tmp_path):
    mask = np.zeros((1411, 1411), np.uint8)
    cv2.ellipse(mask, (228, 655), (90, 110), 0, 0, 360, 255, -1)
    cv2.imwrite(str(tmp_path / "eye.png"), skimage.data.retina()[..., ::-1])
    rows = []
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"m{i}.png"), mask)
        rows.append({"dataset": "eyes", "image": "eye.png", "mask": f"m{i}.png", "split": "validation"})
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


def test_cases_are_read_and_limited(folder):
    assert len(cases(folder)) == 4
    chosen = cases(folder, limit=2)
    assert [case.mask.name for case in chosen] == ["m0.png", "m2.png"]
    assert chosen[0].box().tolist() == [138, 545, 318, 765]
    assert np.array_equal(chosen[0].picture(), skimage.data.retina())
    with pytest.raises(InputError, match="nothing for the split 'test'"):
        cases(folder, "test")
    with pytest.raises(InputError, match=r"no manifest\.csv"):
        cases(folder / "none")


def test_samples_know_what_the_manifest_says(tmp_path):
    folder = write_manifest(tmp_path, {"p2": [10], "p1": [20, 30]})
    found = open_data(folder)
    assert [sample.view for sample in found] == [
        f"clinic/{name}.png" for name in ("p1-0",) * 2 + ("p1-1",) * 2 + ("p2-0",) * 2
    ]
    first = found[0]
    assert (first.dataset, first.modality, first.patient, first.label) == ("clinic", "CT", "clinic/p1", "organ")
    assert (first.unit, first.spacing, first.thickness) == ("px", None, None)
    assert dice(first.reference(), square()) == 1
    assert (first.picture() == 20).all()
    assert len({sample.key for sample in found}) == 6


def test_a_picture_without_a_patient_is_one_and_spacing_is_in_mm(folder):
    path = folder / "manifest.csv"
    text = path.read_text().replace("split\n", "split,spacing_mm\n").replace("validation\n", "validation,0.5\n")
    path.write_text(text)
    first = samples(folder)[0]
    assert first.patient == "eyes/eye.png"
    assert (first.spacing, first.unit) == ((0.5, 0.5), "mm")
    path.write_text(text.replace("0.5", "wide"))
    with pytest.raises(InputError, match="spacing_mm 'wide' of eye"):
        samples(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"dataset,image,split\na,b,c\n", "no column mask; it needs image, mask"),
        (b"dataset,image,mask,split\na,b\n", "too few columns"),
        (b"\xff\xfe\x00\x01", "plain CSV in UTF-8"),
        (b"", "no column image, mask"),
        (b"dataset,image,mask,split\na,b.png,c.png,train\n", "nothing for the split"),
    ],
)
def test_a_bad_manifest_gets_one_sentence(tmp_path, content, words):
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        samples(tmp_path)
    assert "\n" not in str(error.value)


def test_image_and_mask_suffice_where_there_is_no_split(tmp_path):
    folder = write_manifest(tmp_path / "ward", {"p1": [9]})
    (folder / "manifest.csv").write_text("image,mask\nclinic/p1-0.png,clinic/p1-0__0.png\n")
    (only,) = samples(folder)
    assert (only.dataset, only.patient) == ("ward", "ward/clinic/p1-0.png")
    with pytest.raises(InputError, match="no column dataset, split"):
        cases(folder)


def test_means_are_over_data_sets_and_leave_thin_structures_out():
    scores = [("a", 0.0), ("a", 1.0), ("b", 0.9), ("fives_vessel", 0.1)]
    assert mean_over_sets(scores) == pytest.approx(0.7)
    assert mean_over_sets(scores, thin=True) == pytest.approx(0.5)
