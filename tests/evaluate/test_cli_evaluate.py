import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.evaluate.world import SIDE, toy_bundle, write_manifest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with bundles ``good``, ``bad`` and ``bare``, ``data`` of 60 patients and ``few`` of 2."""
    folder = tmp_path_factory.mktemp("site")
    toy_bundle(folder / "good", 0)
    toy_bundle(folder / "bad", 60)
    toy_bundle(folder / "bare", 0, full=False)
    write_manifest(folder / "data", {f"p{i:02d}": [100] for i in range(60)})
    write_manifest(folder / "few", {"p1": [100], "p2": [90]})
    return folder


ALONE = """
import sys
sockets = []
sys.addaudithook(lambda event, _: sockets.append(event) if event.startswith("socket.") else None)
from dfqsam.cli import main
try:
    main()
finally:
    assert not sockets, sockets
    assert "torch" not in sys.modules
"""


def test_a_process_of_its_own_needs_no_torch_and_sends_nothing(place, tmp_path):
    arguments = ["accept", place / "bad", place / "data", "-o", tmp_path / "out"]
    command = [sys.executable, "-W", "error", "-c", ALONE, *map(str, arguments)]
    hidden = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY")  # they hide ONNX Runtime's telemetry
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    home = tmp_path / "home"
    home.mkdir()
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("FAIL: ")
    assert list(home.rglob("*")) == []


def test_evaluate_writes_table_summary_and_report(place, tmp_path, dfqsam):
    out = tmp_path / "out"
    done = dfqsam("evaluate", place / "bare", place / "few", "-o", out, "--reference", place / "good", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("exact: 4 cases of 2 patients, Dice 100.0 in full precision and 100.0 quantized")
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "results.csv", "summary.json", "report.html"}
    again = dfqsam("evaluate", place / "bare", place / "few", "-o", out, "--reference", place / "good", "--json")
    assert json.loads(again.stdout) == json.loads((out / "summary.json").read_text())
    assert json.loads(again.stdout)["measured"]["prompts"] == ["exact", "jittered"]


@pytest.mark.parametrize(
    ("bundle", "data", "word", "code"),
    [("good", "data", "PASS", 0), ("bad", "data", "FAIL", 1), ("good", "few", "INCONCLUSIVE", 3)],
)
def test_accept_says_its_verdict_by_its_exit_code(place, tmp_path, dfqsam, bundle, data, word, code):
    done = dfqsam("accept", place / bundle, place / data, "-o", tmp_path / "out", "--margin", "0.02")
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith(f"{word}: ")
    assert json.loads((tmp_path / "out" / "acceptance.json").read_text())["verdict"] == word


def test_a_plan_needs_no_data(dfqsam):
    done = dfqsam("accept", "--plan", "--sigma", "0.1", "--margin", "0.02", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mean"] == 263
    assert dfqsam("accept", "--plan").stdout.startswith("66 patients: 66 for the mean loss")


def test_mistakes_get_one_sentence_and_exit_code_2(place, tmp_path, dfqsam):
    good, few, out = place / "good", place / "few", ("-o", tmp_path / "out")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((SIDE, SIDE), np.uint8))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\na.png,1,1,99,99\n")
    cases = {
        ("evaluate", place / "bare", few, *out): "--with-full-precision",
        ("evaluate", place / "none", few, *out): "does not exist",
        ("evaluate", good, place / "none", *out): "does not exist",
        ("evaluate", good, place, *out): "laid out in no way that is known",
        ("evaluate", good, few, *out, "--prompts", "click"): "not trained on point prompts",
        ("evaluate", good, few, *out, "--prompts", "tea"): "no prompt 'tea'",
        ("evaluate", good, few, *out, "--split", "test"): "nothing for the split 'test'",
        ("evaluate", good, few, *out, "--label", "lung"): "no object 'lung'",
        ("evaluate", good, few, *out, "--window", "40"): "give LEVEL,WIDTH",
        ("evaluate", good, tmp_path, *out, "--boxes", boxes): "a.png#2: The box 1,1,99,99 reaches outside",
        ("evaluate", good, few, "-o", boxes): "boxes.csv",
        ("accept",): "Give BUNDLE and DATA",
        ("accept", good, few, *out, "--margin", "2"): "not between 0 and 1",
        ("accept", "--plan", "--expected", "0.03"): "expect less or allow more",
        ("accept", "--plan", "--sigma", "0"): "The plan needs",
    }
    for arguments, words in cases.items():
        done = dfqsam(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert words in done.stderr, done.stderr
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1


def test_help_shows_an_example(dfqsam):
    for command in ("evaluate", "accept"):
        assert "Example:" in dfqsam(command, "--help").stdout
