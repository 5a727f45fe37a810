"""Checkpoints with random weights are read back as what they stand for."""

import sys
from dataclasses import replace

import pytest
import torch

from dfqsam.errors import InputError
from dfqsam.sam import random_weights
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.families import COMPACT, FAMILIES, recognise
from dfqsam.sam.model import load_sam


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_recognised_by_its_keys_and_shapes(name):
    with torch.device("meta" if FAMILIES[name].is_vit else "cpu"):
        found = recognise(random_weights.random_state(FAMILIES[name]))
    assert found.name == ("sam-vit-b" if name == "medsam" else name)


def test_mobile_sam_has_the_other_stem(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["random_weights", "mobile-sam", "-o", str(tmp_path / "m.safetensors")])
    random_weights.main()
    state = read_state(tmp_path / "m.safetensors")
    stem = state["image_encoder.patch_embed.seq.0.c.weight"]
    assert stem.shape[2:] == (3, 3)
    assert stem[:, :, 1, 1].all()
    assert int((stem != 0).sum()) == stem[:, :, 1, 1].numel()
    sam = load_sam(state)
    assert (sam.family.name, sam.grid) == ("mobile-sam", 64)


def test_the_same_seed_gives_the_same_vit():
    small = {"width": 64, "depth": 2, "heads": 2, "global_blocks": (1,), "image_size": 64}
    family = replace(FAMILIES["sam-vit-b"], **small)
    one, same, other = (random_weights.random_state(family, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["image_encoder.pos_embed"], other["image_encoder.pos_embed"])
    assert one["image_encoder.blocks.1.attn.rel_pos_h"].std() == pytest.approx(random_weights.TABLES, rel=0.2)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(InputError, match="comes in no sizes of its own"):
        random_weights.random_state(COMPACT)
    with pytest.raises(SystemExit) as stop:
        random_weights.main(["mobile-sam", "-o", str(tmp_path / "nowhere" / "m.safetensors")])
    assert "nowhere" in str(stop.value)
