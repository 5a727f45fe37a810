"""The main job as a whole: what it opens, that it repeats, and the images that ship with the package."""

import dataclasses

import pytest
import torch

from dfqsam import pipeline
from dfqsam.assets import shipped_bundle, shipped_images
from dfqsam.bundle import open_bundle
from dfqsam.config import SynthesisConfig
from dfqsam.errors import InputError
from dfqsam.memory import keep_freed_memory
from dfqsam.sam.families import FAMILIES
from dfqsam.sam.known import LITE_MEDSAM, get_model
from dfqsam.sam.model import load_sam
from dfqsam.sam.vit import ViT, ViTConfig
from dfqsam.synth.batching import batches
from dfqsam.synth.dfqsam import Former
from dfqsam.synth.synthesize import computed_by, make_prior
from dfqsam.synth.synthetic_set import SyntheticSet
from tests.audited import audited_run, strange_files
from tests.small_sam import tiny_sam

# Quantizes while every open and every socket is written down.
FORMING = """
from pathlib import Path
from dfqsam.config import SynthesisConfig
from dfqsam.errors import InputError
from dfqsam.pipeline import quantize
watch()
settings = SynthesisConfig("dfqsam", images=2, steps=1)
made = quantize(None, Path(sys.argv[1]) / "bundle", synthesis=settings).manifest.sha256
tell(made=made)
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    return audited_run(FORMING, folder), folder


@pytest.mark.slow
def test_quantize_that_forms_its_images_opens_nothing_but_checkpoint_libraries_and_output(audited):
    report, folder = audited
    assert strange_files(report, folder) == []
    assert report["sockets"] == []
    # The hook was awake: it saw the bundle being written.
    assert [path for path in report["seen"] if path.startswith(str(folder)) and path.endswith("manifest.json")]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bundle(audited, tmp_path):
    assert audited_run(FORMING, tmp_path)["made"] == audited[0]["made"]


def test_shipped_images_are_whole_and_those_of_the_default_checkpoint():
    folder = shipped_images(LITE_MEDSAM.sha256, 256)
    made = SyntheticSet.load_pictures(folder)
    assert made.images.shape == (32, 3, 256, 256)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    assert made.provenance["statement"].endswith("no image was read.")
    assert shipped_images("0" * 64, 256) is None
    assert shipped_images(LITE_MEDSAM.sha256, 512) is None


def test_the_shipped_bundle_was_calibrated_on_the_shipped_images():
    manifest = open_bundle(shipped_bundle()).manifest
    assert manifest.provenance["images_read"] == 0
    shipped = SyntheticSet.load_pictures(shipped_images(LITE_MEDSAM.sha256, 256))
    assert manifest.calibration["sha256"] == shipped.sha256
    assert manifest.calibration["origin"] == "the synthetic set that ships with dfqsam"


def test_shipped_images_serve_the_default_settings_and_no_others(monkeypatch):
    sam = tiny_sam()
    sam = dataclasses.replace(sam, family=FAMILIES["lite-medsam"])
    shipped = SyntheticSet.load_pictures(shipped_images(LITE_MEDSAM.sha256, 256))
    made = []
    monkeypatch.setattr(pipeline, "synthesize", lambda _sam, config, *_: made.append(config) or shipped)
    for config in (None, SynthesisConfig(), SynthesisConfig().quick(), SynthesisConfig("dfqsam")):
        images, source = pipeline.calibration_images(sam, LITE_MEDSAM.sha256, config)
        assert source["origin"] == "the synthetic set that ships with dfqsam"
        assert len(images) == 32
    assert made == []
    wanted = [SynthesisConfig("dfqsam", seed=1), SynthesisConfig("shapes"), SynthesisConfig("dfqsam", images=4)]
    for config in wanted:
        assert pipeline.calibration_images(sam, LITE_MEDSAM.sha256, config)[1]["origin"] == "made for this bundle"
    pipeline.calibration_images(sam, LITE_MEDSAM.sha256, None, resynthesize=True)
    pipeline.calibration_images(sam, "0" * 64)
    assert made == [*wanted, SynthesisConfig("dfqsam"), SynthesisConfig("dfqsam")]


def test_sensitivity_and_synthesis_write_what_they_promise(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "load", lambda *_: (tiny_sam(), "0" * 64))
    found = pipeline.measure_sensitivity(tmp_path / "any.pth", tmp_path / "report", bits=4, images=1)
    assert [site["name"] for site in found] == [site.name for site in tiny_sam().sites()]
    assert all(site["error"] >= 0 for site in found)
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"sensitivity.md", "sensitivity.png"}
    made = pipeline.make_images(None, tmp_path / "set", SynthesisConfig("dfqsam", images=2, steps=2))
    assert SyntheticSet.load(tmp_path / "set").sha256 == made.sha256
    assert made.provenance["checkpoint_sha256"] == "0" * 64
    assert not (tmp_path / ".set.work").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "w8a8", "block": 32}, "has a scale a channel and no blocks; leave them out, or take w4-only"),
        ({"profile": "w4-only", "block": 512}, "Blocks of 512 weights were asked for; give 32, 64, 128"),
        ({"profile": "w4-only", "target_bytes": 10**6}, "All layers of w4-only have 4 bits"),
        ({"profile": "w4-only", "target_agreement": 95}, "leave the target out, or take w4a8"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_go_with_blocks_is_said_before_anything_is_read(options, words, tmp_path):
    with pytest.raises(InputError, match=words):
        pipeline.quantize(tmp_path / "none.pth", tmp_path / "bundle", **options)


def test_full_precision_graphs_that_no_file_can_hold_are_refused_at_once():
    with torch.device("meta"):  # the exact shapes, without memory
        huge = ViT(ViTConfig(256, width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)))
        large = ViT(ViTConfig(256, width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)))
    sam = dataclasses.replace(tiny_sam(), family=FAMILIES["sam-vit-h"], encoder=huge)
    with pytest.raises(InputError, match=r"SAM ViT-H takes 2\.5 GB, and an ONNX file holds 2 GiB"):
        pipeline.require_one_file(sam)
    pipeline.require_one_file(dataclasses.replace(sam, encoder=large))


@pytest.mark.slow
def test_shipped_images_are_made_again_bit_for_bit():
    """The first batch, which depends on no other; other kernels round otherwise, so that it takes the same ones."""
    shipped = SyntheticSet.load_pictures(shipped_images(LITE_MEDSAM.sha256, 256))
    if shipped.provenance["computed_by"] != computed_by(torch.device("cpu")):
        pytest.skip(f"made with {shipped.provenance['computed_by']}, which is not what runs here")
    config = SynthesisConfig(**{**shipped.provenance["settings"], "prior_classes": ()})
    assert config == SynthesisConfig("dfqsam")
    sam = load_sam(get_model("lite-medsam"))
    keep_freed_memory()
    former = Former(sam, config, make_prior(sam, config))
    batch = former.start(next(batches(sam, config)))
    former.form(batch, lambda *_, **__: None)
    made = SyntheticSet.of(batch.pyramid().detach(), batch.masks, {}, [])
    assert torch.equal(made.pixels, shipped.pixels[: len(made)])
    assert torch.equal(made.masks, shipped.masks[: len(made)])
