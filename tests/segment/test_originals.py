"""One exact box in the middle slice of real volumes, against their reference masks; where they are at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from dfqsam.assets import shipped_bundle
from dfqsam.imaging import open_study, read_study_mask
from dfqsam.runtime import Predictor
from dfqsam.segment import Prompt, segment_study

PLACES = (os.environ.get("DFQSAM_ORIGINALS"), Path(__file__).parents[3] / "shared/data/originals")
FOLDER = next((Path(place) for place in PLACES if place and Path(place).is_dir()), None)
T2 = ("sct/t2/t2.nii.gz", "sct/t2/t2_seg-manual.nii.gz")
CT = ("totalsegmentator/example_ct_sm.nii.gz", "totalsegmentator/example_seg.nii.gz")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(FOLDER is None, reason="the volumes are not at hand")]


@pytest.mark.parametrize(
    ("files", "floors"),
    [(T2, {1: 0.94}), (CT, {5: 0.87, 1: 0.92, 3: 0.88, 2: 0.85, 52: 0.82, 18: 0.85})],
    ids=["spinal cord, MR", "spleen, kidney, liver and others, CT"],
)
def test_one_box_gives_the_structure(files, floors):
    """The largest comes first: the later of two that overlap holds, and the liver's mask spills into the kidney
    (label 2, 0.89 by itself and where it comes later, is 0.76 where the liver comes later)."""
    assert FOLDER is not None
    study = open_study(FOLDER / files[0])
    reference = read_study_mask(FOLDER / files[1], study)
    view = study.view(study.natural_plane)
    prompts = []
    for label in floors:
        shown = [view.show(np.take(reference == label, k, axis=view.axis)) for k in range(view.count)]
        there = [k for k in range(view.count) if shown[k].any()]
        middle = there[len(there) // 2]
        rows, columns = np.nonzero(shown[middle])
        box = float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())
        prompts.append(Prompt(box, middle, view.plane, label))
    found = segment_study(Predictor(shipped_bundle()), study, prompts)
    assert found.encoded <= view.count
    for label, floor in floors.items():
        a, b = found.mask == label, reference == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > floor, label
