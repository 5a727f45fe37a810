"""A device that computes wrong results serves nobody: the self-test runs before the first mask."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from dfqsam.app.models import Library
from dfqsam.app.prompts import Target
from dfqsam.app.settings import Settings
from dfqsam.bundle import SELF_TEST, Bundle, write_bundle
from dfqsam.errors import BundleError
from dfqsam.evaluate.models import Models
from dfqsam.runtime import Predictor, selftest
from dfqsam.runtime.selftest import SelfTest, make_self_test
from tests.bundle.test_bundle import FIELDS
from tests.evaluate.world import SIDE, toy_bundle

WRONG = "This device computes wrong results"


def tiny(path, wrong: bool = False) -> Bundle:
    """A toy bundle with a self-test. A ``wrong`` one says of right kernels that they are wrong: what a device with
    wrong ones sees of a right bundle."""
    made = toy_bundle(path, 1)
    picture = np.random.default_rng(0).integers(0, 256, (SIDE * 3 // 4, SIDE, 3), dtype=np.uint8)
    test = make_self_test(made, picture)
    test = SelfTest(test.picture, -test.means if wrong else test.means, test.mask, test.limit)
    files = {name: made.read(name) for name in made.manifest.files}
    about = {**FIELDS, "model": vars(made.manifest.model), "prompts": made.manifest.prompts}
    return write_bundle(path, {**files, SELF_TEST: test.to_bytes()}, **about)


@pytest.fixture
def faulty(tmp_path):
    return tiny(tmp_path / "faulty", wrong=True)


@pytest.fixture(autouse=True)
def tested(monkeypatch):
    monkeypatch.delenv("DFQSAM_SKIP_SELF_TEST")
    monkeypatch.setattr(selftest, "_passed", set())


def test_a_predictor_refuses_to_be_made(faulty):
    for _ in range(2):  # a failure is not forgotten
        with pytest.raises(BundleError, match=WRONG):
            Predictor(faulty)


def test_all_that_use_one_refuse_too(faulty, tmp_path):
    full = toy_bundle(tmp_path / "full", 0)
    with pytest.raises(BundleError, match=WRONG):
        Models(faulty, full).predictors()  # of evaluate and accept
    (choice,) = Library(Settings((faulty.path,))).choices.values()
    with pytest.raises(BundleError, match=WRONG):
        choice.quantized.segment(np.zeros((64, 64, 3), np.uint8), Target(box=(1, 1, 40, 40), points=()))


def test_the_command_line_refuses_and_writes_nothing(faulty, tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), np.full((SIDE, SIDE), 90, np.uint8))
    command = [sys.executable, "-W", "error", "-m", "dfqsam", "segment", str(faulty.path), str(tmp_path / "p.png")]
    command += ["--box", "10,10,40,40", "-o", str(tmp_path / "m.png"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {WRONG}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "m.png").exists()
    done = subprocess.run([*command, "--skip-self-test"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pixels"] > 0


def test_workers_of_a_folder_refuse_and_say_why(faulty, tmp_path):
    (tmp_path / "studies").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "studies" / f"{name}.png"), np.full((SIDE, SIDE), 90, np.uint8))
    (tmp_path / "boxes.csv").write_text("study,slice,x0,y0,x1,y1\na.png,0,10,10,40,40\nb.png,0,10,10,40,40\n")
    command = [sys.executable, "-m", "dfqsam", "segment", str(faulty.path), str(tmp_path / "studies")]
    command += ["--prompts", str(tmp_path / "boxes.csv"), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line.partition(": ")[2].startswith(WRONG) for line in done.stderr.splitlines()] == [True, True]
    assert not list((tmp_path / "out").glob("*mask*"))


def test_it_runs_once_a_process_and_bundle_and_not_for_full_precision(monkeypatch, tmp_path):
    bundle, runs = tiny(tmp_path / "right"), []
    real = selftest.self_test
    monkeypatch.setattr(
        selftest, "self_test", lambda predictor: runs.append(predictor.bundle.sha256) or real(predictor)
    )
    first = Predictor(bundle)
    assert not first.is_image_set
    Predictor(bundle.path, threads=1)
    Predictor(bundle, full_precision=True)
    assert runs == [bundle.sha256]
    monkeypatch.setattr(selftest, "_passed", set())
    Predictor(bundle, check_device=False)
    monkeypatch.setenv("DFQSAM_SKIP_SELF_TEST", "1")
    Predictor(bundle)
    assert runs == [bundle.sha256]
