import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dfqsam.errors import InputError
from dfqsam.sam.reference.augment import Draw, views
from dfqsam.sam.reference.data import DRAWN, SIDE, bank_of, joined, real
from dfqsam.sam.reference.pack import pack, unpack
from tests.sam.reference.world import tiny_bank

MEDSEG = Path(os.environ.get("DFQSAM_DATA", Path(__file__).parents[4] / "shared" / "data")) / "medseg"


def same_but_for_jpeg(one, other):
    assert torch.equal(one.shapes, other.shapes)
    assert torch.equal(one.masks, other.masks)
    assert torch.equal(one.owners, other.owners)
    assert one.datasets == other.datasets
    assert float((one.pictures.float() - other.pictures.float()).abs().mean()) < 4


def test_what_was_packed_comes_back(tmp_path):
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 50:] = (200, 30, 90)
    mask = np.zeros((40, 100), bool)
    mask[5:30, 55:90] = True
    bank = joined([tiny_bank(), bank_of([wide], [[mask, ~mask]], ["wide"])])
    size = pack(bank, tmp_path / "data.npz")
    assert size == (tmp_path / "data.npz").stat().st_size
    found = unpack(tmp_path / "data.npz")
    same_but_for_jpeg(bank, found)
    red, green, blue = found.pictures[-1, :, 20, 80].tolist()
    assert red > blue > green  # the order of colours stays
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.parametrize("damage", ["short", "text", "missing"])
def test_a_damaged_pack_is_refused(tmp_path, damage):
    path = tmp_path / "data.npz"
    pack(tiny_bank(), path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "short" else b"pictures")
    with pytest.raises(InputError, match="no packed training data"):
        unpack(path)


def folder_of(tmp_path) -> Path:
    """Two pictures of the split train and one of validation; one keeps its size."""
    rows = []
    for name, split in (("a", "train"), ("b", "train"), ("c", "validation")):
        width = 320 if name == "b" else 400
        picture, mask = np.full((200, width, 3), 90, np.uint8), np.zeros((200, width), np.uint8)
        mask[50:150, 100:300] = 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        cv2.imwrite(str(tmp_path / f"{name}_mask.png"), mask)
        rows.append(["set", f"{name}.png", f"{name}_mask.png", split])
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([["dataset", "image", "mask", "split"], *rows])
    return tmp_path


def test_only_the_training_split_is_read(tmp_path):
    bank = real(folder_of(tmp_path))
    assert len(bank) == 2
    assert bank.shapes.tolist() == [[160, 320], [200, 320]]
    assert bank.masks[0].sum() == pytest.approx(80 * 160, rel=0.02)
    chances = joined([bank, tiny_bank()]).chances()
    assert [bool(chance) for chance in chances[0]] == [True, True, False, False, False]
    assert [bool(chance) for chance in chances[1]] == [False, False, True, True, True]


def test_a_folder_without_objects_is_refused():
    with pytest.raises(InputError, match="no picture with a mask"):
        bank_of([np.zeros((8, 8, 3), np.uint8)], [[np.zeros((8, 8), bool)]], ["empty"])


def test_views_move_pictures_and_masks_alike():
    """The object is the only bright part of a picture, so that whatever a view shows bright has to be its mask."""
    picture, mask = np.zeros((240, SIDE, 3), np.uint8), np.zeros((240, SIDE), bool)
    cv2.ellipse(picture, (140, 100), (70, 40), 30, 0, 360, (255, 255, 255), -1)
    mask[:] = picture[..., 0] > 0
    bank = bank_of([picture], [[mask]], ["one"])
    numbers = torch.zeros(24, dtype=torch.long)
    import dfqsam.sam.reference.augment as augment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment, "intensities", lambda images, draw: images)
        seen = views(bank, numbers, numbers[:, None], Draw(5, torch.device("cpu")), 128)
    bright = seen.images[:, :1] > 0.5
    assert torch.equal(bright, seen.masks)
    areas = seen.masks.flatten(1).sum(1).float()
    assert areas.max() > 2 * areas.min()  # some are enlarged
    assert not bool((seen.masks & ~seen.valid).any())
    assert bool((~seen.valid).any())
    assert seen.weight.sum() > 20


def test_intensities_stay_in_range_and_the_seed_decides():
    bank, numbers = tiny_bank(), torch.zeros(4, dtype=torch.long)
    one, same, other = (
        views(bank, numbers, numbers[:, None], Draw(seed, torch.device("cpu")), 64).images for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert 0 <= float(one.min()) <= float(one.max()) <= 1
    assert bank.datasets == (DRAWN,) * 3


@pytest.mark.slow
@pytest.mark.skipif(not MEDSEG.is_dir(), reason="the pictures are not in ../shared/data/medseg")
def test_the_real_pictures_pack_below_the_limit(tmp_path):
    bank = real(MEDSEG)
    assert pack(bank, tmp_path / "data.npz") < 60_000_000
    same_but_for_jpeg(bank, unpack(tmp_path / "data.npz"))
