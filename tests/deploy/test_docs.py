"""docs/deploy.md says what is true: commands run, options and files that it names are there, figures are the tests'."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dfqsam.bundle.keys import make_keys
from dfqsam.bundle.sign import Signer, sign_bundle
from tests.deploy import test_files, test_wheelhouse
from tests.deploy.world import DEPLOY, EDGE
from tests.evaluate.world import toy_bundle
from tests.hostile import test_mutations

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "deploy.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_commands_of_the_single_file_run(tmp_path):
    (block,) = [block for block in BLOCKS if "edge_infer.py bundle" in block]
    toy_bundle(tmp_path / "bundle", 1, full=False)
    make_keys(tmp_path / "hospital")
    sign_bundle(tmp_path / "bundle", Signer(tmp_path / "hospital"))
    shutil.copy(EDGE, tmp_path)
    cv2.imwrite(str(tmp_path / "picture.png"), np.full((240, 320), 90, np.uint8))
    script = f'python3() {{ "{sys.executable}" -W error "$@"; }}\n{block}'
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mask = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (240, 320)
    assert mask[120, 120] == 255
    assert '"runs": 5' in done.stdout


@pytest.mark.parametrize("name", ["wheelhouse.py", "edge_infer.py"])
def test_every_option_that_is_named_is_there(name):
    done = subprocess.run([sys.executable, DEPLOY / name, "--help"], capture_output=True, text=True, check=True)
    lines = [line.split(name)[1] for block in BLOCKS for line in block.splitlines() if name in line]
    assert lines
    options = {word for line in lines for word in line.split() if word.startswith("--")}
    assert options <= {*re.findall(r"--[\w-]+", done.stdout)}


def test_every_file_that_is_named_is_there():
    for path in {*re.findall(r"deploy/[\w.]+", TEXT)}:
        assert (ROOT / path).exists(), path
    for path in {*re.findall(r"\]\(([\w-]+\.md)", TEXT)}:
        assert (ROOT / "docs" / path).exists(), path
    unit, text = (ROOT / "deploy" / "dfqsam.service").read_text(), os.linesep.join(BLOCKS)
    for place in ("/opt/dfqsam", "/etc/dfqsam/token", "/var/lib/dfqsam-bundles/current", "/etc/dfqsam/trust"):
        assert place in unit
        assert place in text


def test_figures_are_those_of_the_tests():
    rows = re.findall(r"^\| ([\w, -]+) \| ([\d,]+) \| ([\d,]+) \|$", TEXT, re.MULTILINE)
    assert {name for name, _, _ in rows} <= {*test_mutations.NAMES, *test_mutations.NATIVE, "kind"}
    assert {count for _, count, _ in rows} == {f"{test_mutations.MANY:,}"}
    assert f"more than {test_mutations.MEGABYTES} MB" in TEXT
    assert f"holds it to {test_files.EXPOSURE / 10}" in TEXT
    assert test_wheelhouse.LIMIT >= 129e6
