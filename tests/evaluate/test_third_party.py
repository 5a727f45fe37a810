"""The figures of ``results.csv`` computed again by others, SimpleITK and MONAI, from masks on a disk; and a run that
was killed the hard way."""

import csv
import os
import signal
import subprocess
import sys
import time
import warnings

import cv2
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its own documentation's name)

from dfqsam.evaluate.measure import RESULTS
from dfqsam.evaluate.models import open_models
from dfqsam.evaluate.run import Work, run_evaluation
from dfqsam.evaluate.sources import open_data
from dfqsam.runtime import Predictor
from tests.evaluate.world import SIDE, toy_bundle, write_manifest

SPACING = (0.7, 0.7)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A bundle, and pictures with ellipses as reference masks, whose pixels have a size in mm."""
    folder = tmp_path_factory.mktemp("third")
    data = folder / "data"
    (data / "images").mkdir(parents=True)
    rows = ["image,mask,patient,spacing_mm"]
    rng = np.random.default_rng(4)
    for number in range(6):
        cv2.imwrite(str(data / "images" / f"{number}.png"), np.full((SIDE, SIDE), 40 * number, np.uint8))
        mask = np.zeros((SIDE, SIDE), np.uint8)
        centre, axes = rng.integers(22, 42, 2).tolist(), rng.integers(9, 17, 2).tolist()
        cv2.ellipse(mask, centre, axes, float(rng.integers(0, 90)), 0, 360, 255, -1)
        cv2.imwrite(str(data / "images" / f"{number}m.png"), mask)
        rows.append(f"images/{number}.png,images/{number}m.png,p{number},{SPACING[0]}")
    (data / "manifest.csv").write_text("\n".join(rows))
    return toy_bundle(folder / "bundle", 4).path, data


def overlap(one, other):
    measured = sitk.LabelOverlapMeasuresImageFilter()
    measured.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (one, other)))
    return measured.GetDiceCoefficient()


def distance(one, other, spacing):
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    pair = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (one, other)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of MONAI, about itself
        return float(metrics.compute_hausdorff_distance(*pair, percentile=95, spacing=list(spacing)))


def test_dice_and_hd95_are_those_of_simpleitk_and_monai(place, tmp_path):
    path, data = place
    models = open_models(path)
    run_evaluation(models, open_data(data), tmp_path, Work(["exact"], workers=1))
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["unit"] for row in rows} == {"mm"}
    asked = {"fp": Predictor(path, full_precision=True), "q": Predictor(path)}
    seen = set()
    for row in rows:
        picture = cv2.cvtColor(cv2.imread(str(data / row["view"])), cv2.COLOR_BGR2RGB)
        truth = cv2.imread(str(data / row["view"].replace(".png", "m.png")), cv2.IMREAD_GRAYSCALE) > 0
        y, x = np.nonzero(truth)
        masks = {}
        for name, predictor in asked.items():
            predictor.set_image(picture)
            found = predictor.predict(box=[x.min(), y.min(), x.max(), y.max()])[0][0]
            cv2.imwrite(str(tmp_path / "mask.png"), found.astype(np.uint8) * 255)
            masks[name] = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_GRAYSCALE) > 0
            assert float(row[f"dice_{name}"]) == pytest.approx(overlap(masks[name], truth), abs=1e-6)
            assert float(row[f"hd95_{name}"]) == pytest.approx(distance(masks[name], truth, SPACING), abs=1e-6)
        assert float(row["agreement"]) == pytest.approx(overlap(masks["fp"], masks["q"]), abs=1e-6)
        seen.add(row["hd95_q"])
    assert len(seen) > 3  # figures that tell something


def test_a_killed_evaluation_goes_on_to_the_same_files(tmp_path):
    path = toy_bundle(tmp_path / "bundle", 4).path
    data = write_manifest(tmp_path / "data", {f"p{n:03d}": [n, 255 - n] for n in range(50)})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_evaluation(open_models(path), open_data(data), whole, Work())
    command = [sys.executable, "-m", "dfqsam", "evaluate", path, data, "-o", killed, "--workers", "1"]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    kept, deadline = killed / RESULTS, time.monotonic() + 120
    while not (kept.exists() and kept.read_bytes().count(b"\n") > 10):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 10 < kept.read_bytes().count(b"\n") < 101
    assert not (killed / "results.csv").exists()
    with kept.open("ab") as file:
        file.write(b'{"stamp": "cut off in the mid')  # what a kill may leave
    run_evaluation(open_models(path), open_data(data), killed, Work(workers=3))
    for name in ("results.csv", "summary.json", "report.html"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    lines = kept.read_bytes().splitlines()
    assert len(lines) == len({*lines}) == 101  # a picture a line, none twice
