import math

import pytest
import torch

from dfqsam.sam.reference.loss import against_masks, against_teacher, overlap, within_box


def test_overlap_of_masks_by_hand():
    logits = torch.tensor([[[1.0, 1.0, -1.0]]])
    target = torch.tensor([[[1.0, 0.0, 0.0]]])
    dice, iou = overlap(logits, target)
    assert float(dice) == pytest.approx(2 / 3, abs=1e-5)
    assert float(iou) == pytest.approx(1 / 2, abs=1e-5)


def test_a_right_mask_costs_next_to_nothing_and_a_wrong_one_is_counted_by_weight():
    target = torch.zeros(2, 8, 8)
    target[:, 2:6, 2:6] = 1
    right = (target * 2 - 1) * 30
    logits = torch.stack([right[0], -right[0]])
    quality = torch.tensor([1.0, 1.0])
    assert float(against_masks(logits, quality, target, torch.tensor([1.0, 0.0]))) < 1e-4
    # Wrong everywhere: Dice 1 - 1/(48+16+1), IoU 0 where 1 was promised, focal 20 * (16 * 0.25 + 48 * 0.75) / 64 * 30,
    # cross-entropy 30 at each pixel of the box.
    expected = 20 * 30 * (16 * 0.25 + 48 * 0.75) / 64 + 1 - 1 / 65 + 1 + 30
    assert float(against_masks(logits, quality, target, torch.tensor([0.0, 1.0]))) == pytest.approx(expected, rel=1e-4)
    assert float(against_masks(logits, quality, target, torch.zeros(2))) == 0


def test_within_the_box_every_pixel_counts_and_outside_none():
    target = torch.tensor([[[0.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]], [[0.0] * 4] * 4])
    logits = torch.full((2, 4, 4), 40.0)
    logits[0, 1, 1:] = torch.tensor([0.0, -1, -2])
    # Six pixels: a target of 1 at logit 0, of 0 at -1 and -2, and in the other row of 0, 0 and 1 at 40.
    expected = (math.log(2) + math.log1p(math.exp(-1)) + math.log1p(math.exp(-2)) + 40 + 40 + 0) / 6
    found = within_box(logits, target)
    assert float(found[0]) == pytest.approx(expected, rel=1e-5)
    assert float(found[1]) == 0


def test_a_teacher_counts_as_much_as_it_is_right():
    target = torch.tensor([[[1.0, 0.0]]])
    taught = torch.tensor([[[2.0, -2.0]]])
    one = torch.ones(1)
    assert float(against_teacher(taught, taught, target, one)) == pytest.approx(0, abs=1e-6)
    p = 1 / (1 + math.exp(-2))
    entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    logits = torch.zeros(1, 1, 2)
    assert float(against_teacher(logits, taught, target, one)) == pytest.approx(math.log(2) - entropy, rel=1e-5)
    assert float(against_teacher(logits, -taught, target, one)) == pytest.approx(0, abs=1e-5)  # wrong: not trusted
