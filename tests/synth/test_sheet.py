import numpy as np
import torch

from dfqsam.synth.layouts import random_layouts
from dfqsam.synth.sheet import BLUE, ORANGE, PAPER, TILE, contact_sheet
from dfqsam.synth.synthetic_set import Snapshot, SyntheticSet


def example(count, titles=(), size=64):
    images, masks = torch.full((count, 3, size, size), 0.5), random_layouts(count, size, 0)
    snapshots = [Snapshot(title, images, masks, masks.roll(20, 3)) for title in titles]
    return SyntheticSet.of(images, masks, {}, snapshots)


def holds(sheet, colour):
    return int((np.abs(sheet.astype(int) - colour).max(2) < 12).sum()) > 100


def test_rows_are_images_and_columns_are_stages():
    one, few, many = (contact_sheet(example(n, ("start", "middle", "end"))) for n in (1, 3, 12))
    assert one.dtype == np.uint8
    assert few.shape[1] == many.shape[1] == one.shape[1]
    assert few.shape[0] - one.shape[0] >= 2 * TILE
    assert many.shape[0] < few.shape[0] + 6 * TILE
    assert holds(few, ORANGE)
    assert holds(few, BLUE)
    assert (few[:4] == PAPER).all()


def test_a_set_without_stages_is_a_plain_grid():
    sheet = contact_sheet(example(5))
    assert sheet.shape[1] > 3 * TILE
    assert 2 * TILE < sheet.shape[0] < 3 * TILE
    assert not holds(sheet, ORANGE)
    assert contact_sheet(example(1, size=300)).shape[0] > TILE


def test_empty_masks_and_single_stages_are_drawn():
    made = example(2, ("end",))
    made.snapshots[0].masks[:] = False
    made.snapshots[0].predicted[:] = False
    assert contact_sheet(made).shape[1] > TILE
