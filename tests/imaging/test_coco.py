import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as pycoco
from pycocotools.coco import COCO

from dfqsam.errors import InputError
from dfqsam.imaging import Volume, coco, write_study_mask
from dfqsam.imaging.coco import compressed, decompressed, from_run_lengths, run_lengths

# pycocotools 2.0.11 hands numpy 2 an array type of before it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def test_by_hand():
    assert run_lengths(np.zeros((2, 3))) == [6]
    assert run_lengths(np.ones((2, 3))) == [0, 6]
    assert run_lengths([[1, 0, 0], [0, 0, 1]]) == [0, 1, 4, 1]
    with pytest.raises(InputError, match="has shape"):
        run_lengths(np.zeros((2, 2, 2)))


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_compression_is_that_of_pycocotools(mask):
    theirs = pycoco.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = run_lengths(mask)
    assert compressed(counts) == theirs["counts"].decode()
    assert decompressed(compressed(counts)) == counts
    assert np.array_equal(from_run_lengths(counts, mask.shape), mask)
    plain = pycoco.frPyObjects({"size": list(mask.shape), "counts": counts}, *mask.shape)
    assert np.array_equal(pycoco.decode(plain), mask)


def test_long_runs_survive():
    big = np.zeros((3000, 2500), bool)
    big[100:2900, 3:2400] = True
    theirs = pycoco.encode(np.asfortranarray(big.astype(np.uint8)))["counts"].decode()
    assert compressed(run_lengths(big)) == theirs
    assert decompressed(theirs) == run_lengths(big)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_other_texts_are_refused_or_decoded(text):
    message = "COCO"
    try:
        assert isinstance(decompressed(text), list)
    except InputError as error:
        message = str(error)
    assert "COCO" in message


@pytest.mark.parametrize("compress", [True, False])
def test_a_document_is_read_by_pycocotools(tmp_path, compress, capsys):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, (4, 20, 30))
    labels[2] = 0
    document = coco(Volume(np.zeros((4, 20, 30))), labels, {1: "liver", 9: "never drawn"}, compress=compress)
    (tmp_path / "m.json").write_text(json.dumps(document))
    read = COCO(str(tmp_path / "m.json"))
    assert sorted(read.imgs) == [0, 1, 3]
    assert [c["name"] for c in read.cats.values()] == ["liver", "label 2", "never drawn"]
    assert len(read.anns) == 6
    for annotation in read.anns.values():
        expected = labels[annotation["image_id"]] == annotation["category_id"]
        rle = read.annToRLE(annotation)
        assert np.array_equal(pycoco.decode(rle), expected)
        assert annotation["area"] == expected.sum() == pycoco.area(rle)
        assert annotation["bbox"] == pycoco.toBbox(rle).tolist()


def test_a_picture_has_its_name_and_a_study_none(tmp_path):
    volume = Volume(np.zeros((1, 4, 5, 3), np.uint8))
    assert coco(volume, np.ones((1, 4, 5)), name="fundus.png")["images"][0]["file_name"] == "fundus.png"
    write_study_mask(tmp_path / "m.json", volume, np.ones((1, 4, 5), bool), {1: "disc"})
    written = json.loads((tmp_path / "m.json").read_text())
    assert written["images"][0]["file_name"] == "slice-0000.png"
    assert written["categories"] == [{"id": 1, "name": "disc"}]
    with pytest.raises(InputError, match="do not make a mask"):
        from_run_lengths([3, -1], (1, 2))
