"""The bundle that ships is accepted on real patients, and the same with weights of 2 bits is not. Minutes."""

import os
from pathlib import Path

import pytest

from dfqsam.assets import shipped_bundle
from dfqsam.bundle import Bundle, open_bundle, write_bundle
from dfqsam.evaluate.accept import Rules, accept
from dfqsam.evaluate.measure import Settings, measure
from dfqsam.evaluate.models import open_models
from dfqsam.evaluate.samples import Sample, by_view
from dfqsam.evaluate.sources import open_data
from dfqsam.evaluate.verdict import FAIL, PASS
from dfqsam.export.graphs import DecoderGraph, EncoderGraph
from dfqsam.export.trace import export_decoder, export_encoder
from dfqsam.sam.known import get_model
from dfqsam.sam.model import load_sam
from tests.evaluate.damage import damaged

DATA = Path(os.environ.get("DFQSAM_DATA", Path(__file__).parents[3] / "shared" / "data")) / "medseg"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the pictures are not in ../shared/data/medseg"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    """The shipped bundle, with LiteMedSAM in full precision added."""
    sam = load_sam(get_model("lite-medsam"))
    encoder = export_encoder(EncoderGraph(sam.encoder, sam.normalise), sam.family.image_size, plain=True)
    decoder = export_decoder(DecoderGraph(sam.prompt_encoder, sam.mask_decoder), sam.grid)
    shipped = open_bundle(shipped_bundle())
    manifest = shipped.manifest
    files = {name: shipped.read(name) for name in manifest.files}
    files["encoder_fp32.onnx"] = encoder.SerializeToString(deterministic=True)
    files["decoder_fp32.onnx"] = decoder.SerializeToString(deterministic=True)
    return write_bundle(
        tmp_path_factory.mktemp("real") / "bundle",
        files,
        model=vars(manifest.model),
        preprocessing=manifest.preprocessing,
        prompts=manifest.prompts,
        profile=manifest.profile,
        quantization=manifest.quantization,
        calibration=manifest.calibration,
        provenance=manifest.provenance,
        versions=manifest.versions,
    )


def one_picture_a_patient(samples: list[Sample]) -> list[Sample]:
    """The first picture of each patient, with at most 8 objects."""
    first: dict[str, list[Sample]] = {}
    for group in by_view(samples):
        first.setdefault(group[0].patient, group[:8])
    return [sample for group in first.values() for sample in group]


def test_the_shipped_bundle_is_accepted_and_one_of_2_bits_is_not(bundle, tmp_path):
    samples = one_picture_a_patient(open_data(DATA))
    rows = measure(open_models(bundle.path), samples, Settings(("exact",)), tmp_path / "shipped")
    judgement = accept(rows, Rules(margin=0.02))
    assert judgement.verdict.word == PASS, judgement.verdict.reason
    assert len(judgement.patients) > 100
    spoilt = damaged(bundle, tmp_path / "spoilt")
    few = one_picture_a_patient(samples[::3])[:60]
    rows = measure(open_models(spoilt.path), few, Settings(("exact",)), tmp_path / "spoilt-rows")
    verdict = accept(rows, Rules(margin=0.02)).verdict
    assert verdict.word == FAIL
    assert "worse than allowed" in verdict.reason
