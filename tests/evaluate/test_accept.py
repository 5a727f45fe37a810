import json
import re

import cv2
import numpy as np
import pytest

from dfqsam.bundle import strict
from dfqsam.errors import InputError
from dfqsam.evaluate.accept import Rules, accept, by_patient
from dfqsam.evaluate.measure import RESULTS, Settings, measure
from dfqsam.evaluate.models import open_models
from dfqsam.evaluate.record import record, signable
from dfqsam.evaluate.run import Work, run_acceptance
from dfqsam.evaluate.sources import open_data
from dfqsam.evaluate.verdict import FAIL, INCONCLUSIVE, MET, OPEN, PASS
from tests.evaluate.world import SIDE, toy_bundle, write_manifest

MANY = {**{f"p{i:02d}": [4 * i % 40] for i in range(61)}, "p61": [255]}  # the last loses much more than the others


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return open_models(toy_bundle(tmp_path_factory.mktemp("toy") / "good", 0.0).path)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    return open_models(toy_bundle(tmp_path_factory.mktemp("toy") / "bad", 60).path)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("data"), MANY)


def judge(models, data, out, rules=Rules(), **options):  # noqa: B008 (frozen)
    """Judgement and record, without a report."""
    rows = measure(models, open_data(data, **options), Settings(("exact",)), out, 1)
    judgement = accept(rows, rules)
    return judgement, record(judgement, rules, "exact", models, {})


def written(models, data, out, **options):
    """The same with all files."""
    return run_acceptance(models, open_data(data, **options), out, Rules(), Work(workers=1))


def test_a_good_model_passes_and_a_bad_one_fails(good, bad, many, tmp_path):
    judgement, document = judge(good, many, tmp_path / "good")
    assert judgement.verdict.word == document["verdict"] == PASS
    assert {criterion.state for criterion in judgement.criteria} == {MET}
    judgement, document = judge(bad, many, tmp_path / "bad")
    assert judgement.verdict.word == document["verdict"] == FAIL
    assert "worse than allowed" in document["reason"]


def test_too_few_patients_are_inconclusive_and_told_how_many_are_missing(good, tmp_path):
    data = write_manifest(tmp_path / "data", {f"p{i}": [9] for i in range(20)})
    judgement, document = judge(good, data, tmp_path / "out")
    assert (judgement.verdict.word, document["more_patients"]) == (INCONCLUSIVE, 39)
    assert [criterion.state for criterion in judgement.criteria] == [MET, MET, OPEN]


def test_patients_count_and_not_cases(bad, tmp_path):
    data = write_manifest(tmp_path / "data", {"one": [255] * 9, "two": [0]})
    judgement, document = judge(bad, data, tmp_path / "out")
    patients = judgement.patients
    assert patients.names == ["clinic/one", "clinic/two"]
    assert patients.dice.tolist() == [1, 0]  # nothing is left of any square in the white pictures
    assert patients.dice_fp.tolist() == [1, 1]
    assert patients.surface.tolist() == [1, 0]
    assert document["counts"]["cases"] == 20
    assert document["counts"]["patients"] == 2
    assert judgement.criteria[0].value == 0.5


def test_the_record_names_no_one_and_holds_aggregates_only(good, many, tmp_path):
    judgement, document = written(good, many, tmp_path / "out")
    data = (tmp_path / "out" / "acceptance.json").read_bytes()
    assert data == signable(document) == strict.canonical(json.loads(data))
    for sample in open_data(many):
        for secret in (sample.key, sample.view, sample.patient, sample.dataset, str(many)):
            assert secret not in data.decode()
    assert document["bundle"]["sha256"] == good.quantized.sha256
    assert document["reference"]["sha256"] == good.reference.sha256
    assert document["rules"]["margin"] == document["rules"]["nsd_margin"] == 0.02
    assert set(document["over_patients"]["dice_loss"]) == {"mean", "sd"}

    def longest(part) -> int:
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        return max([len(part) if isinstance(part, list) else 0, *map(longest, inner)])

    assert longest(document) == len(judgement.criteria)  # no list is as long as that of the patients


def test_figures_of_few_patients_are_withheld(bad, tmp_path):
    data = write_manifest(tmp_path / "data", {"one": [100], "two": [50]})
    _, document = written(bad, data, tmp_path / "out")
    assert document["reason"] == "Fewer than 5 patients: figures are withheld."
    assert "over_patients" not in document
    assert "patients_losing" not in document["counts"]
    assert not {"value", "upper", "lower"} & set().union(*document["criteria"])
    local = (tmp_path / "out" / "acceptance.html").read_text()
    assert "mean loss" in local


def test_the_same_seed_gives_the_same_record(tmp_path, many):
    models = open_models(toy_bundle(tmp_path / "b", 1.5).path)
    first, second = (judge(models, many, tmp_path / name)[1] for name in "ab")
    assert signable(first) == signable(second)
    other = judge(models, many, tmp_path / "a", Rules(seed=5))[1]
    assert other["rules"].pop("seed") == 5
    assert first["rules"].pop("seed") == 0
    assert other != first  # the bootstrap has drawn other patients


def test_without_masks_agreement_alone_is_claimed(good, tmp_path):
    lines = ["image,x0,y0,x1,y1,patient"]
    for i in range(20):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((SIDE, SIDE), i, np.uint8))
        lines.append(f"{i}.png,10,10,40,40,P{i}")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("\n".join(lines) + "\n")
    judgement, document = written(good, tmp_path, tmp_path / "out", boxes=boxes)
    assert (judgement.verdict.word, document["claim"]) == (PASS, "agreement")
    assert "nothing is said about whether either is right" in document["reason"]
    assert [criterion.name for criterion in judgement.criteria] == ["Disagreement"]
    assert "only agreement of the two models is judged" in (tmp_path / "out" / "acceptance.html").read_text()
    shrunk = open_models(toy_bundle(tmp_path / "shrunk", 120).path)
    judgement, document = judge(shrunk, tmp_path, tmp_path / "bad", boxes=boxes)
    assert judgement.verdict.word == FAIL
    assert document["over_patients"]["agreement"]["mean"] < 0.97
    assert "dice_loss" not in document["over_patients"]


def test_the_agreement_has_to_reach_its_limit_with_its_lower_limit(many, tmp_path):
    models = open_models(toy_bundle(tmp_path / "b", 4).path)
    rows = judge(models, many, tmp_path / "out")[0].rows
    bare = [type(row)(**{**row.to_json(), "dice_fp": None, "dice_q": None}) for row in rows]
    agreement = by_patient(bare).agreement
    criterion = accept(bare, Rules(agreement=round(float(agreement.mean()) - 1e-4, 6))).criteria[0]
    assert criterion.value < criterion.allowed < criterion.upper
    assert criterion.state == OPEN


def test_every_label_must_pass_when_asked(good, tmp_path):
    data = write_manifest(tmp_path / "data", MANY, label="liver")
    write_manifest(tmp_path / "data", {f"q{i}": [8] for i in range(6)}, "other", "spleen")
    assert judge(good, data, tmp_path / "out")[0].verdict.word == PASS
    judgement, document = judge(good, data, tmp_path / "each", Rules(per_label=True))
    assert judgement.verdict.word == INCONCLUSIVE
    assert len(judgement.criteria) == 9
    assert document["more_patients"] == 53
    assert "spleen: Large losses of Dice" in document["reason"]
    assert "liver" not in document["reason"]


def test_thin_structures_do_not_count(good, tmp_path):
    data = write_manifest(tmp_path / "data", {"a": [1]}, "fives_vessel")
    with pytest.raises(InputError, match="vessels and thin bleedings do not count"):
        judge(good, data, tmp_path / "out")


def test_what_evaluate_has_measured_is_not_measured_again(good, many, tmp_path, monkeypatch):
    samples = open_data(many)
    measure(good, samples, Settings(("exact", "jittered")), tmp_path / "out", 1)
    before = (tmp_path / "out" / RESULTS).read_bytes()
    monkeypatch.setattr("dfqsam.evaluate.measure._ask", None)
    judgement, document = written(good, many, tmp_path / "out")
    assert judgement.verdict.word == PASS
    assert {row.prompt for row in judgement.rows} == {document["rules"]["prompt"]} == {"exact"}
    assert (tmp_path / "out" / RESULTS).read_bytes() == before


def test_margins_are_checked():
    for wrong in ({"margin": 0}, {"margin": 2}, {"nsd_margin": float("nan")}, {"agreement": 1.0}):
        with pytest.raises(InputError, match="is not between 0 and 1"):
            Rules(**wrong)


def test_the_report_names_cases_by_number_only(bad, many, tmp_path):
    judgement, document = written(bad, many, tmp_path / "out")
    text = (tmp_path / "out" / "acceptance.html").read_text()
    assert text.count("FAIL") >= 1
    shown = re.sub(r'src="data:[^"]*"', "", text)
    assert not any(patient in shown for patient in judgement.patients.names)
    assert "clinic/" not in shown
    assert record(judgement, Rules(), "exact", bad, document["versions"]) == document
    lines = (tmp_path / "out" / "acceptance-patients.csv").read_text().splitlines()
    assert lines[0] == "patient,dice_loss,nsd_loss,agreement"
    assert len(lines) == 1 + len(MANY)
