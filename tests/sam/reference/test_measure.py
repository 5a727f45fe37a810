import json

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file

from dfqsam.evaluate.metrics import dice
from dfqsam.sam.reference.floors import ellipse, grab_cut
from dfqsam.sam.reference.measure import Scored, main, markdown, patient_limits, report
from dfqsam.sam.reference.model import Learner, Sizes, published_form


def test_the_ellipse_touches_the_sides_of_its_box():
    mask = ellipse((60, 80), (10, 20, 70, 50))
    rows, columns = np.nonzero(mask)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (10, 20, 70, 50)
    assert mask.sum() == pytest.approx(np.pi * 30 * 15, rel=0.03)


def test_grab_cut_finds_what_differs_from_its_surroundings():
    noise = np.random.default_rng(0).integers(0, 20, (80, 80, 3)).astype(np.uint8)
    wanted = ellipse((80, 80), (25, 25, 54, 54))
    picture = noise + 180 * wanted[..., None].astype(np.uint8)
    assert dice(grab_cut(picture, (22, 22, 57, 57)), wanted) > 0.97
    flat = np.zeros((20, 20, 3), np.uint8)
    assert grab_cut(flat, (5, 5, 9, 9)).any()
    assert grab_cut(flat, (0, 0, 19, 19)).all()


def test_means_are_over_masks_then_over_data_sets_without_thin_ones():
    found = [
        Scored("a", "p1", {"box_exact": 1.0}),
        Scored("a", "p1", {"box_exact": 0.5}),
        Scored("a", "p2", {"box_exact": 0.0}),
        Scored("b", "p3", {"box_exact": 0.9}),
        Scored("hrf_vessel", "p4", {"box_exact": 0.0}),
    ]
    told = report(found)
    assert told["data_sets"]["a"]["box_exact"]["mean"] == 50
    assert told["data_sets"]["b"]["box_exact"] == {"mean": 90.0, "low": None, "high": None}  # one patient
    assert told["mean_over_data_sets"]["box_exact"]["mean"] == 70
    assert told["left_out_of_mean"] == ["hrf_vessel"]
    assert "| a | 3 | 50.0 (0.0 to 75.0) |" in markdown(told)


def test_limits_narrow_with_the_number_of_patients():
    draw = np.random.default_rng(0)
    few, many = (patient_limits(draw.normal(80, 10, (n, 2)).tolist(), 0) for n in (5, 500))
    assert many[1] - many[0] < 2
    assert few[1] - few[0] > many[1] - many[0]
    assert many[0] < 80 < many[1]


def test_every_way_of_asking_is_measured_on_a_folder(tmp_path, capsys):
    learner = Learner(Sizes(32, 1))
    save_file(published_form(learner, learner.state_dict()), tmp_path / "model.safetensors")
    picture = np.full((40, 60, 3), 30, np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:45] = 255
    picture[mask > 0] = 220
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    (tmp_path / "manifest.csv").write_text("dataset,image,mask,split\nset,a.png,m.png,validation\n")
    main([str(tmp_path / "model.safetensors"), str(tmp_path), "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())["data_sets"]["set"]
    asked = {"box_exact", "box_jittered", "clicks_1", "clicks_3", "clicks_5", "ellipse", "grabcut"}
    assert {*found} == {"masks", "patients", *asked}
    assert found["grabcut"]["mean"] == 100
    assert 80 < found["ellipse"]["mean"] < 95
    assert "| set | 1 |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(tmp_path / "model.safetensors"), str(tmp_path / "nowhere")])
    assert "has no manifest.csv" in capsys.readouterr().err
