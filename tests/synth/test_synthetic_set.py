import hashlib
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.synth.layouts import random_layouts
from dfqsam.synth.shapes import shapes
from dfqsam.synth.synthetic_set import Snapshot, SyntheticSet

FACTS = {"settings": {"seed": 3, "classes": ("a", "b")}, "statement": "none"}


def example(count=3, size=32):
    images, masks = torch.rand(count, 3, size, size), random_layouts(count, size, 1)
    return SyntheticSet.of(images, masks, FACTS, [Snapshot("start", images, masks, masks)])


def same(one, two):
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.masks, two.masks)
    assert one.provenance == two.provenance
    assert (one.masks.dtype, one.images.dtype) == (two.masks.dtype, two.images.dtype)


def files(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_images_are_multiples_of_one_255th(seed):
    images = 1.4 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) - 0.2
    made = SyntheticSet.of(images, random_layouts(1, 8, 0), {}, [])
    assert torch.equal(made.images, made.pixels.float() / 255)
    assert (made.images - images.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6


def test_a_saved_set_is_the_same_when_it_is_loaded(tmp_path):
    made = example()
    made.save(tmp_path / "a")
    assert set(files(tmp_path / "a")) == {"synthetic.safetensors", "provenance.json", "sheet.png"}
    loaded = SyntheticSet.load(tmp_path / "a")
    same(made, loaded)
    told = json.loads((tmp_path / "a" / "provenance.json").read_text())
    assert list(told) == sorted(told)
    assert told["sha256"] == made.sha256
    made.save(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]


def test_pictures_are_the_same_when_they_are_loaded(tmp_path):
    made = example(count=102, size=8)
    made.save_pictures(tmp_path / "a")
    assert len(files(tmp_path / "a")) == 104
    same(made, SyntheticSet.load_pictures(tmp_path / "a"))
    few = example(count=2)
    few.save_pictures(tmp_path / "a")
    assert set(files(tmp_path / "a")) == {"00.png", "01.png", "masks.safetensors", "provenance.json"}
    same(few, SyntheticSet.load_pictures(tmp_path / "a"))


def test_32_pictures_of_256_px_stay_below_5_mb(tmp_path):
    images = torch.cat([shapes(4, 256, 0)] * 8)
    SyntheticSet.of(images, random_layouts(32, 256, 0), {}, []).save_pictures(tmp_path / "a")
    assert sum(path.stat().st_size for path in (tmp_path / "a").iterdir()) < 5_000_000


@pytest.mark.parametrize("name", ["synthetic.safetensors", "provenance.json"])
def test_missing_cut_and_altered_sets_are_refused(tmp_path, name):
    folder = tmp_path / "a"
    example().save(folder)
    whole = (folder / name).read_bytes()
    for data in (whole[:-20], whole[:40], b""):
        (folder / name).write_bytes(data)
        with pytest.raises(InputError, match="synthetic set"):
            SyntheticSet.load(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match="synthetic set"):
        SyntheticSet.load(folder)


def test_one_altered_pixel_is_noticed(tmp_path):
    folder = tmp_path / "a"
    made = example()
    made.save_pictures(folder)
    picture = (folder / "01.png").read_bytes()
    (folder / "01.png").write_bytes((folder / "00.png").read_bytes())
    with pytest.raises(InputError, match="provenance describes"):
        SyntheticSet.load_pictures(folder)
    (folder / "01.png").write_bytes(picture[:100])
    with pytest.raises(InputError, match="damaged"):
        SyntheticSet.load_pictures(folder)
    told = json.loads((folder / "provenance.json").read_text())
    (folder / "01.png").write_bytes(picture)
    (folder / "provenance.json").write_text(json.dumps({**told, "mask_slots": 2}))
    with pytest.raises(InputError):
        SyntheticSet.load_pictures(folder)


def test_nothing_of_the_users_is_replaced(tmp_path):
    folder = tmp_path / "a"
    example().save(folder)
    (folder / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for target in (folder, tmp_path / "file"):
        with pytest.raises(InputError, match="other files"):
            example().save(target)
    assert (folder / "thesis.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    example().save(tmp_path / "empty")
    with pytest.raises(InputError, match="cannot be written"):
        example().save(tmp_path / "file" / "below")


def test_what_is_no_set_is_refused():
    images, masks = torch.rand(2, 3, 8, 8), random_layouts(2, 8, 0)
    with pytest.raises(ValueError, match="belong together"):
        SyntheticSet.of(images[:1], masks, {}, [])
    with pytest.raises(ValueError, match="no numbers"):
        SyntheticSet.of(images * float("nan"), masks, {}, [])
    with pytest.raises(ValueError, match="may not name"):
        SyntheticSet.of(images, masks, {"sha256": "x"}, [])
