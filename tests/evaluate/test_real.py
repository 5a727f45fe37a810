"""The bundle that ships is accepted on real patients, and the same with weights of 2 bits is not. Minutes."""

import os
from pathlib import Path

import pytest

from dfqsam.bundle import Bundle
from dfqsam.evaluate.accept import Rules, accept
from dfqsam.evaluate.measure import Settings, measure
from dfqsam.evaluate.models import open_models
from dfqsam.evaluate.samples import Sample, by_view
from dfqsam.evaluate.sources import open_data
from dfqsam.evaluate.verdict import FAIL, PASS
from tests.evaluate.damage import damaged
from tests.full_precision import shipped_with_full_precision

DATA = Path(os.environ.get("DFQSAM_DATA", Path(__file__).parents[3] / "shared" / "data")) / "medseg"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the pictures are not in ../shared/data/medseg"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return shipped_with_full_precision(tmp_path_factory.mktemp("real") / "bundle")


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
