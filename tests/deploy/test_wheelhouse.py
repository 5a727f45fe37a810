"""Installed without a network from wheels with hashes, the base runs: nothing is fetched, and torch is not there."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

from dfqsam.assets import shipped_bundle
from dfqsam.bundle.keys import make_keys
from dfqsam.bundle.sign import Signer, sign_bundle
from tests.deploy.test_files import instructions
from tests.deploy.world import DEPLOY, EDGE
from tests.test_no_egress import ALONE, HIDING

LIMIT = 150_000_000  # bytes, of the wheels of the base install
_spec = importlib.util.spec_from_file_location("wheelhouse", DEPLOY / "wheelhouse.py")
assert _spec is not None
assert _spec.loader is not None
wheelhouse = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(wheelhouse)


def fill(folder, *names):
    folder.mkdir()
    for name in names:
        with zipfile.ZipFile(folder / name, "w") as made:
            made.writestr("a", name)
    return folder


def test_every_wheel_is_locked_by_its_hash(tmp_path):
    folder = fill(
        tmp_path / "w", "My_Pkg.Two-1.0-py3-none-any.whl", "numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl"
    )
    lines = wheelhouse.locked(folder).splitlines()
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())]
    assert lines == [f"my-pkg-two==1.0 --hash=sha256:{hashes[0]}", f"numpy==2.4.6 --hash=sha256:{hashes[1]}"]


def test_torch_and_second_versions_are_refused(tmp_path):
    with pytest.raises(wheelhouse.WheelhouseError, match="would hold torch, which no device needs"):
        wheelhouse.locked(fill(tmp_path / "a", "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"))
    with pytest.raises(wheelhouse.WheelhouseError, match="two versions"):
        wheelhouse.locked(fill(tmp_path / "b", "a-1-py3-none-any.whl", "a-2-py3-none-any.whl"))


def test_sets_are_extras_of_dfqsam_or_the_packages_of_the_single_file():
    assert wheelhouse.requirements(["base"], "d.whl", {}) == ["d.whl"]
    assert wheelhouse.requirements(["serve", "app"], "d.whl", {"serve": [], "app": []}) == ["d.whl[serve,app]"]
    assert wheelhouse.requirements(["edge"], None, {}) == ["numpy", "onnxruntime", "pillow", "cryptography"]
    with pytest.raises(wheelhouse.WheelhouseError, match="has no extra serve; it has app"):
        wheelhouse.requirements(["serve"], "d.whl", {"app": []})


def test_another_machine_is_named_to_pip_by_the_tags_that_it_runs():
    words = wheelhouse.options("aarch64", "3.11")
    assert words[words.index("--python-version") + 1] == "3.11"
    assert {"manylinux_2_17_aarch64", "manylinux_2_34_aarch64", "manylinux2014_aarch64"} <= {*words}
    assert not [word for word in words if "x86" in word]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert wheelhouse.main(["-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"Error: {tmp_path} is not empty; name a new folder.\n"


def build(folder, *sets):
    options = [word for name in sets for word in ("--set", name)]
    command = [sys.executable, DEPLOY / "wheelhouse.py", "-o", folder, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr or "connection" in done.stderr.lower():
        pytest.skip(f"no package index can be reached, nothing was tested: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The wheelhouse of the base install, and what the script says of it."""
    if ALONE is None:
        pytest.skip("this machine gives no network namespace (unshare -n, unshare -rn)")
    folder = tmp_path_factory.mktemp("wheelhouse") / "base"
    return folder, build(folder, "base")


@pytest.fixture(scope="module")
def edge(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("wheelhouse") / "edge"
    build(folder, "edge")
    return folder


class Offline:
    """Runs programs where there is no network, with nothing of this Python on their way."""

    def __init__(self, place):
        self.home = place / "home"
        self.home.mkdir()
        self.place = place
        keep = {name: value for name, value in os.environ.items() if name not in (*HIDING, "PYTHONPATH")}
        self.environment = {name: value for name, value in keep.items() if not name.startswith(("PIP_", "DFQSAM_"))}
        self.environment |= {"HOME": str(self.home), "PIP_CONFIG_FILE": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment["PATH"] = "/usr/bin:/bin"  # pip asks compilers that it finds for their version

    def run(self, *command):
        assert ALONE is not None
        return subprocess.run(
            [*ALONE, *map(str, command)],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.place,
            check=False,
        )

    def install(self, wheels):
        """A fresh virtual environment with everything in a wheelhouse; its ``bin``."""
        made = self.run(sys.executable, "-m", "venv", self.place / "venv")
        assert made.returncode == 0, made.stderr
        options = ("--no-index", "--require-hashes", "--no-cache-dir", "--find-links", wheels)
        done = self.run(self.place / "venv/bin/pip", "install", *options, "-r", wheels / "requirements.txt")
        assert done.returncode == 0, done.stderr
        return self.place / "venv" / "bin"


@pytest.fixture
def offline(tmp_path):
    return Offline(tmp_path)


@pytest.fixture
def work(tmp_path):
    """A signed copy of the bundle that ships, and a picture."""
    shutil.copytree(shipped_bundle(), tmp_path / "bundle")
    make_keys(tmp_path / "key")
    sign_bundle(tmp_path / "bundle", Signer(tmp_path / "key"))
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8), (200, 150))
    cv2.imwrite(str(tmp_path / "p.png"), np.asarray(picture))
    return tmp_path


@pytest.mark.slow
def test_the_base_installs_and_runs_without_a_network(base, edge, offline, work, tmp_path):
    folder, said = base
    assert said["bytes"] == sum(path.stat().st_size for path in folder.glob("*.whl")) <= LIMIT
    program = offline.install(folder)
    done = offline.run(program / "dfqsam", "verify", work / "bundle", "--trust", work / "key.pub")
    assert done.returncode == 0, done.stderr
    assert "is whole" in done.stdout
    box = ("--box", "40,30,150,120", "-o", work / "m.png")
    done = offline.run(program / "dfqsam", "segment", work / "bundle", work / "p.png", *box)
    assert done.returncode == 0, done.stderr
    roots = "import sys, dfqsam.cli, dfqsam.runtime, dfqsam.segment.batch"
    roots += "; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = offline.run(program / "python", "-c", roots).stdout
    assert "'onnxruntime'" in loaded
    assert not re.search(r"'(torch|streamlit|onnx|nibabel)'", loaded)
    assert offline.run(program / "python", "-c", "import torch").returncode == 1
    assert offline.run(program / "python", "-c", "import streamlit").returncode == 1
    (tmp_path / "edge").mkdir()
    other = Offline(tmp_path / "edge")
    single = other.install(edge)
    words = (EDGE, work / "bundle", work / "p.png", "--box", 40, 30, 150, 120, "-o", work / "e.png")
    done = other.run(single / "python", *words, "--trust", work / "key.pub")
    assert done.returncode == 0, done.stderr
    masks = [cv2.imread(str(work / name), cv2.IMREAD_UNCHANGED) for name in ("m.png", "e.png")]
    assert masks[0].any()
    assert np.array_equal(masks[0], masks[1])
    assert other.run(single / "python", "-c", "import dfqsam").returncode == 1
    assert list(offline.home.rglob("*")) == list(other.home.rglob("*")) == []  # no telemetry, no caches


@pytest.mark.slow
def test_a_wheel_that_was_changed_is_not_installed(base, offline, tmp_path):
    folder = shutil.copytree(base[0], tmp_path / "changed")
    (wheel,) = folder.glob("typer-*.whl")
    with wheel.open("ab") as file:
        file.write(b"\0")
    made = offline.run(sys.executable, "-m", "venv", tmp_path / "venv")
    assert made.returncode == 0, made.stderr
    options = ("--no-index", "--require-hashes", "--find-links", folder, "-r", folder / "requirements.txt")
    done = offline.run(tmp_path / "venv/bin/pip", "install", *options)
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr


@pytest.mark.slow
def test_the_steps_of_the_containerfile_run_without_a_network(base, offline, tmp_path):
    """There need be no container engine: the steps of its first stage, with the places that it knows put elsewhere."""
    (steps,) = [rest for word, rest in instructions()[: instructions().index(("FROM", "${BASE}"))] if word == "RUN"]
    assert "/opt/dfqsam" in steps
    script = steps.replace("/opt/dfqsam", str(tmp_path / "opt")).replace("/wheelhouse", str(base[0]))
    done = offline.run("sh", "-ec", script.replace("python -m", f"{sys.executable} -m"))
    assert done.returncode == 0, done.stderr
    assert offline.run(tmp_path / "opt/bin/dfqsam", "--version").stdout.startswith("dfqsam")
