import csv
import io
import json

import cv2
import numpy as np
import pytest

from dfqsam.errors import BundleError, InputError
from dfqsam.evaluate import measure as module
from dfqsam.evaluate.files import results_csv
from dfqsam.evaluate.measure import RESULTS, Settings, measure
from dfqsam.evaluate.models import open_models
from dfqsam.evaluate.sources import open_data
from dfqsam.evaluate.summary import summarise, worst
from dfqsam.runtime import Predictor
from tests.evaluate.world import SIDE, toy_bundle, write_manifest

BOTH = Settings(("exact", "jittered"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return open_models(toy_bundle(tmp_path_factory.mktemp("toy") / "bundle", 4).path)


@pytest.fixture
def data(tmp_path):
    return open_data(write_manifest(tmp_path / "data", {"p1": [255, 0], "p2": [128]}))


def test_the_figures_by_hand(models, data, tmp_path):
    rows = measure(models, data, Settings(("exact",)), tmp_path / "out", 1)
    assert len(rows) == 6
    white, small = rows[:2]
    # Full precision fills the box: 20 x 20. Of a white picture, quantized is 4 pixels smaller on each side: 12 x 12.
    assert (white.area_ref, white.area_fp, white.area_q) == (400, 400, 144)
    assert (white.dice_fp, white.iou_fp, white.hd95_fp, white.nsd_fp, white.area_error_fp) == (1, 1, 0, 1, 0)
    assert white.dice_q == white.agreement == pytest.approx(2 * 144 / 544, abs=1e-6)
    assert white.iou_q == pytest.approx(144 / 400)
    assert white.nsd_q == 0
    assert 4 <= white.hd95_q <= 4 * 2**0.5
    assert white.area_error_q == pytest.approx(144 / 400 - 1)
    assert (white.unit, white.volume_q, white.patient, white.prompt) == ("px", None, "clinic/p1", "exact")
    assert small.area_q == 8 * 8  # the other square has a side of 16
    black = next(row for row in rows if row.view.endswith("p1-1.png"))
    assert (black.dice_q, black.agreement, black.hd95_q) == (1, 1, 0)


def test_an_empty_answer_has_no_distance_and_counts_as_nothing(data, tmp_path):
    models = open_models(toy_bundle(tmp_path / "bundle", 30).path)
    rows = measure(models, data, Settings(("exact",)), tmp_path / "out", 1)
    white = next(row for row in rows if row.view.endswith("p1-0.png"))
    assert (white.area_q, white.dice_q, white.nsd_q, white.hd95_q) == (0, 0, 0, None)
    means = summarise(rows)["prompts"]["exact"]["mean_over_data_sets"]
    assert means["hd95_undefined_q"] == 4
    assert means["hd95_undefined_fp"] == 0
    assert means["dice_q"] == pytest.approx(1 / 3)
    line = list(csv.DictReader(io.StringIO(results_csv(rows).decode())))[rows.index(white)]
    assert (line["hd95_q"], line["dice_q"]) == ("", "0.0")


def test_a_picture_is_encoded_once_a_model(models, data, tmp_path, monkeypatch):
    seen = []
    once = Predictor.set_image
    monkeypatch.setattr(Predictor, "set_image", lambda self, image: seen.append(1) or once(self, image))
    assert len(measure(models, data, BOTH, tmp_path / "out", 1)) == 12
    assert len(seen) == 2 * 3


def test_any_number_of_workers_gives_the_same_bytes(models, data, tmp_path):
    tables = [results_csv(measure(models, data, BOTH, tmp_path / str(n), n)) for n in (1, 2, 5)]
    assert len({*tables}) == 1


def test_every_session_has_one_thread(models, monkeypatch):
    asked = []
    monkeypatch.setattr("dfqsam.evaluate.models.Predictor", lambda bundle, **options: asked.append(options["threads"]))
    models.predictors()
    assert asked == [1, 1]


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("cut", [b"", b'{"stamp": "ab'])
def test_a_run_that_was_stopped_goes_on_to_the_same_table(models, data, tmp_path, monkeypatch, after, cut):
    whole = results_csv(measure(models, data, BOTH, tmp_path / "whole", 2))
    ask, done = module._ask, []

    def stop(*arguments):
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(1)
        return ask(*arguments)

    monkeypatch.setattr(module, "_ask", stop)
    with pytest.raises(KeyboardInterrupt):
        measure(models, data, BOTH, tmp_path / "out", 1)
    with open(tmp_path / "out" / RESULTS, "ab") as file:
        file.write(cut)
    counted = []
    monkeypatch.setattr(module, "_ask", lambda *arguments: counted.append(1) or ask(*arguments))
    assert results_csv(measure(models, data, BOTH, tmp_path / "out", 2)) == whole
    assert len(counted) == 3 - after
    assert results_csv(measure(models, data, BOTH, tmp_path / "out", 2)) == whole
    assert len(counted) == 3 - after


def test_a_file_that_changed_is_measured_again(models, data, tmp_path, monkeypatch):
    measure(models, data, BOTH, tmp_path / "out", 1)
    cv2.imwrite(str(data[0].files[0]), np.full((SIDE, SIDE), 77, np.uint8))
    counted, ask = [], module._ask
    monkeypatch.setattr(module, "_ask", lambda *arguments: counted.append(1) or ask(*arguments))
    measure(models, data, BOTH, tmp_path / "out", 1)
    assert len(counted) == 1


def test_results_of_something_else_are_not_mixed_in(models, data, tmp_path):
    out = tmp_path / "out"
    measure(models, data, BOTH, out, 1)
    other = open_models(toy_bundle(tmp_path / "other", 1).path)
    for pair, settings in ((other, BOTH), (models, Settings(("exact",))), (models, Settings(BOTH.prompts, 1))):
        with pytest.raises(InputError, match="holds results of another bundle"):
            measure(pair, data, settings, out, 1)
    (out / RESULTS).write_bytes((out / RESULTS).read_bytes() + b"[1]\n")
    with pytest.raises(InputError, match="is damaged"):
        measure(models, data, BOTH, out, 1)


def test_what_cannot_be_used_is_named_and_what_was_measured_is_kept(models, tmp_path):
    folder = write_manifest(tmp_path / "data", {"p1": [9], "p2": [9]})
    cv2.imwrite(str(folder / "clinic" / "p2-0__0.png"), np.full((9, 9), 255, np.uint8))
    with pytest.raises(InputError, match=r"p2-0__0.png has \(9, 9\) pixels and its image \(64, 64\)"):
        measure(models, open_data(folder), BOTH, tmp_path / "out", 1)
    assert len((tmp_path / "out" / RESULTS).read_bytes().splitlines()) == 2
    with pytest.raises(InputError, match="at least 1"):
        measure(models, open_data(folder), BOTH, tmp_path / "out", 0)


def test_a_reference_mask_that_is_empty_is_no_case(models, tmp_path):
    folder = write_manifest(tmp_path / "data", {"p1": [9]})
    cv2.imwrite(str(folder / "clinic" / "p1-0__0.png"), np.zeros((SIDE, SIDE), np.uint8))
    assert len(measure(models, open_data(folder), Settings(("exact",)), tmp_path / "out", 1)) == 1


def test_clicks_are_asked_where_the_model_understands_them(data, tmp_path):
    models = open_models(toy_bundle(tmp_path / "bundle", 0, prompts=("box", "point")).path)
    rows = measure(models, data, Settings(("click", "clicks")), tmp_path / "out", 1)
    assert {row.area_fp for row in rows} == {256.0}  # the square that reaches 8 pixels from the click
    assert {row.agreement for row in rows} == {1.0}


def test_without_full_precision_the_way_is_shown(tmp_path):
    bare = toy_bundle(tmp_path / "bare", 2, full=False)
    with pytest.raises(InputError, match="--with-full-precision, and name it with --reference FULL") as error:
        open_models(bare.path)
    assert "\n" not in str(error.value)
    full = toy_bundle(tmp_path / "full", 0)
    assert open_models(bare.path, full.path).reference.sha256 == full.sha256
    foreign = toy_bundle(tmp_path / "foreign", 0, checkpoint="1" * 64)
    with pytest.raises(InputError, match="of another checkpoint"):
        open_models(bare.path, foreign.path)
    with pytest.raises(BundleError, match="does not exist"):
        open_models(tmp_path / "none")


def test_summaries_are_of_each_prompt_data_set_modality_and_label(models, tmp_path):
    write_manifest(tmp_path / "data", {"p1": [255]}, "a")
    write_manifest(tmp_path / "data", {"p1": [0], "p2": [0]}, "b")
    write_manifest(tmp_path / "data", {"p1": [255]}, "fives_vessel")
    rows = measure(models, open_data(tmp_path / "data"), BOTH, tmp_path / "out", 1)
    part = summarise(rows)["prompts"]["exact"]
    lost = 2 - 2 * 144 / 544 - 2 * 64 / 320
    assert part["mean_over_data_sets"]["cases"] == 6
    assert part["mean_over_data_sets"]["dice_q"] == pytest.approx(1 - lost / 4, abs=1e-5)
    assert part["mean_over_data_sets"]["patients"] == 3
    assert part["thin_structures"]["cases"] == 2
    assert set(part["by_dataset"]) == {"a", "b", "fives_vessel"}
    assert part["by_modality"]["CT"]["cases"] == part["by_label"]["organ"]["cases"] == 8
    first = worst(rows, 1)[0]
    assert rows[first].dice_fp - rows[first].dice_q == max(row.dice_fp - row.dice_q for row in rows)


def test_the_kept_lines_are_plain_json(models, data, tmp_path):
    measure(models, data, BOTH, tmp_path / "out", 1)
    head, *lines = [json.loads(line) for line in (tmp_path / "out" / RESULTS).read_text().splitlines()]
    assert head["bundle"] == models.quantized.sha256
    assert head["prompts"] == ["exact", "jittered"]
    assert sum(len(line["rows"]) for line in lines) == 12
