import csv

import cv2
import numpy as np
import pytest
import skimage.data

from dfqsam.assets import shipped_bundle
from dfqsam.errors import InputError
from dfqsam.evaluate.medseg import cases
from dfqsam.evaluate.metrics import dice
from dfqsam.evaluate.table import markdown, masks, mean_over_sets
from dfqsam.runtime import Predictor


def test_dice_by_hand():
    assert dice([1, 1, 0, 0], [1, 0, 1, 0]) == 0.5
    assert dice([0, 0], [0, 0]) == 1
    assert dice([1, 0], [0, 1]) == 0
    with pytest.raises(InputError, match="shapes"):
        dice([1], [1, 0])


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


def test_cases_are_read_limited_and_segmented_by_their_boxes(folder):
    assert len(cases(folder)) == 4
    chosen = cases(folder, limit=2)
    assert [case.mask.name for case in chosen] == ["m0.png", "m2.png"]
    assert chosen[0].box().tolist() == [138, 545, 318, 765]
    predictor = Predictor(shipped_bundle())
    found = dict(masks(predictor, chosen, ""))
    predictor.set_image(skimage.data.retina())
    direct = predictor.predict(box=[138, 545, 318, 765])[0][0]
    assert len(found) == 2
    assert all(np.array_equal(mask, direct) for mask in found.values())
    assert mean_over_sets({case: dice(mask, direct) for case, mask in found.items()}) == 1
    with pytest.raises(InputError, match="nothing for the split 'test'"):
        cases(folder, "test")
    with pytest.raises(InputError, match=r"no manifest\.csv"):
        cases(folder / "none")


def test_the_table_is_markdown():
    row = {"profile": "w8a8", "method": "shapes", "megabytes": 6.12, "dice": 79.0, "drop": 0.5, "agreement": 93.0}
    assert markdown([row]).splitlines()[-1] == "| w8a8 | shapes | 6.1 | 79.0 | 0.5 | 93.0 |"
