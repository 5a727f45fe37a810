"""Rules applied afterwards to what a walk has kept lead to the same masks as following with these rules."""

import numpy as np
import pytest

from dfqsam.segment import Prompt, Propagation, segment_study
from dfqsam.segment.measured import _box, chosen, report, structures
from tests.segment.fake import Fake
from tests.segment.shapes import ball, grid, tube, volume

SHAPE = (24, 40, 42)


def scene():
    """A ball, a cone and a column that a wider one takes over, in a grey level of the model's own doubt."""
    s, r, c = grid(SHAPE)
    reference = np.zeros(SHAPE, np.uint16)
    reference[ball(SHAPE, (12, 10, 10), 7)] = 1
    reference[(abs(r - 10) <= s // 4) & (abs(c - 30) <= s // 4)] = 2
    reference[tube(SHAPE, 30, 20, 3, last=12)] = 3
    reference[tube(SHAPE, 30, 22, 6, first=13)] = 4
    reference[tube(SHAPE, 35, 2, 1, first=3, last=5)] = 5  # over three slices only: nothing to follow
    values = np.where(reference > 0, 200, 0).astype(np.uint8)
    return volume(values), reference


def unsure(picture):
    return 0.4 + 0.3 * float((picture > 128).mean() > 0.11)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"margin": 0.0},
        {"margin": 4.0, "least_overlap": 0.8},
        {"least_quality": 0.6},
        {"most_growth": 1.5},
        {"least_share": 0.2, "most_growth": np.inf, "least_overlap": 0.0, "least_quality": 0.0},
    ],
    ids=str,
)
def test_the_dice_is_that_of_following_with_the_rules(values):
    study, reference = scene()
    rules = Propagation(**values)
    found = structures(Fake(quality=unsure), study, reference, 0)
    assert [one.label for one in found] == [1, 2, 3, 4]
    view = study.view(study.natural_plane)
    for one in found:
        truth = reference == one.label
        shown = [view.show(np.take(truth, k, axis=view.axis)) for k in range(view.count)]
        there = [k for k in range(view.count) if shown[k].any()]
        middle = there[len(there) // 2]
        prompt = Prompt(_box(shown[middle]), middle, view.plane)
        mask = segment_study(Fake(quality=unsure), study, [prompt], rules).mask > 0
        expected = 2 * int((mask & truth).sum()) / (int(mask.sum()) + int(truth.sum()))
        assert one.dice(rules) == pytest.approx(expected), one.label


def test_rules_are_chosen_on_other_volumes_only():
    scores = np.array([[0.9, 0.1, 0.2, 0.5], [0.2, 0.8, 0.9, 0.5], [0.5, 0.7, 0.1, 0.9]])
    volumes = np.array([0, 1, 1, 2])
    # Without volume 0: means of volumes 1 and 2 are .325, .675 and .65; without volume 2: .525, .525 and .45.
    assert chosen(scores, volumes, 0) == 1
    assert chosen(scores, volumes, 2) == 0
    study, reference = scene()
    found = structures(Fake(), study, reference, 0) + structures(Fake(), study, reference == 1, 1)
    document = report(found, ["a", "b"])
    assert [(row["study"], row["structures"]) for row in document["volumes"]] == [("a", 4), ("b", 1)]
    for row in document["volumes"]:
        assert row["other_volumes"] <= row["at_most"]
        assert row["shipped"] <= row["at_most"] + 1e-9
    assert len(document["structures"]) == 5
