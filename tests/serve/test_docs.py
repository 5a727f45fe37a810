"""docs/serve.md says what is true: its commands run, its figures are the defaults, and its fields are all there are."""

import os
import re
import shutil
import subprocess
import sys

import cv2
import nibabel as nib
import numpy as np
import pytest

from dfqsam.serve.documents import IMAGE_FORM, SEGMENT_FORM
from dfqsam.serve.run import CONNECTIONS, PATIENCE
from dfqsam.serve.settings import MB, Settings
from tests.evaluate.world import toy_bundle
from tests.imaging.made import placed, written
from tests.serve.world import ROOT, Process

TEXT = (ROOT / "docs" / "serve.md").read_text()
CURL, TOKENS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.slow
@pytest.mark.skipif(None in (shutil.which("curl"), shutil.which("bash")), reason="this machine has no curl or bash")
def test_the_commands_run(tmp_path):
    bundle = toy_bundle(tmp_path / "bundle", 1, full=False).path
    cv2.imwrite(str(tmp_path / "fundus.png"), np.full((300, 300, 3), 90, np.uint8))
    slices = placed(np.full((1, 100, 100), 900, np.uint16), WindowCenter=500, WindowWidth=400)
    (tmp_path / "slice.dcm").write_bytes(written(slices[0]))
    nib.save(
        nib.Nifti1Image(np.full((100, 100, 4), 90, np.uint8), np.diag([1.0, 1.0, 5.0, 1.0])), tmp_path / "ct.nii.gz"
    )
    with Process(bundle) as server:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", CURL.replace("python3", sys.executable)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "SERVICE": server.address},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert '"prompts":["box"]' in done.stdout
    for name, start in (("mask.png", b"\x89PNG"), ("mask.dcm", bytes(128) + b"DICM"), ("mask.nii.gz", b"\x1f\x8b")):
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.skipif(
    None in (shutil.which("openssl"), shutil.which("bash")), reason="this machine has no openssl or bash"
)
def test_the_token_that_is_made_is_one(tmp_path):
    from dfqsam.serve.clients import Clients

    command = next(line for line in TOKENS.splitlines() if line.startswith("openssl"))
    subprocess.run(["sh", "-euc", command.partition("#")[0]], cwd=tmp_path, check=True)
    assert len(Clients.of(tmp_path / "tokens").fingerprints) == 1


def test_fields_limits_and_options_are_named():
    fields = SEGMENT_FORM["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert {*re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)} == {*fields}
    assert {*IMAGE_FORM["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]} < {*fields}
    plain = Settings()
    limits = dict(re.findall(r"^\| `--([\w-]+)` \| (\d+)", TEXT, re.MULTILINE))
    wanted = {
        "max-body": plain.max_body // MB,
        "max-pixels": plain.max_pixels // 1_000_000,
        "queue": plain.queue,
        "rate": plain.rate,
        "timeout": int(plain.timeout),
        "cache": plain.cache // MB,
    }
    assert limits == {name: str(value) for name, value in wanted.items()}
    assert f"| connections | {CONNECTIONS}; {PATIENCE:.0f} to {2 * PATIENCE:.0f} s" in TEXT


def test_the_options_of_the_command_have_these_defaults(dfqsam):
    shown = re.sub(r"\s+|│", " ", dfqsam("serve", "--help").stdout)
    plain = Settings()
    for name, value in (("port", plain.port), ("queue", plain.queue), ("rate", plain.rate), ("timeout", plain.timeout)):
        assert re.search(rf"--{name} .*?\[default: {value}\]", shown), name
    for option in ("--trust", "--token-file", "--tls-cert", "--insecure", "--allow-unsigned", "--audit", "Example:"):
        assert option in shown
