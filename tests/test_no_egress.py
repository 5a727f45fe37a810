"""Without any network everything works, and nothing is left for a later connection to send.

Every verb runs in a network namespace of its own, which has no interface but a dead loopback, with the variables unset
that make ONNX Runtime and Streamlit behave better in continuous integration than in a hospital.
"""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from dfqsam.assets import shipped_bundle
from dfqsam.bundle import open_bundle
from dfqsam.bundle.manifest import RECORDS
from tests.bundle.world import signed
from tests.evaluate.world import SIDE, toy_bundle, write_manifest

HIDING = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "DFQSAM_SKIP_SELF_TEST")
TELEMETRY = (".cache/Microsoft", ".onnxruntime", "Microsoft", "DeveloperTools", "onnxruntime.db", "deviceid")


def _namespace() -> list[str] | None:
    """The command that starts another without a network; None where this machine does not allow it."""
    for options in (["-n"], ["-rn"]):
        command = ["unshare", *options]
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return None


ALONE = _namespace()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ALONE is None, reason="this machine gives no network namespace (unshare -n, unshare -rn)"),
]


@pytest.fixture
def alone(tmp_path):
    """Runs Python in a namespace without a network; afterwards the home is as empty as it was."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in HIDING}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def run(*arguments: object) -> str:
        assert ALONE is not None
        command = [*ALONE, sys.executable, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    left = [str(path.relative_to(home)) for path in home.rglob("*")]
    assert not [path for path in left if any(part in path for part in TELEMETRY)]
    assert left == []


def test_there_is_no_network_in_there(alone):
    code = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)
except OSError as error:
    print(error.errno)
"""
    assert int(alone("-c", code)) in (101, 111, 113)  # unreachable


def test_inspect_segment_evaluate_sign_and_verify(alone, tmp_path):
    shipped = shipped_bundle()
    cv2.imwrite(str(tmp_path / "p.png"), np.full((96, 96, 3), 90, np.uint8))
    assert json.loads(alone("-m", "dfqsam", "inspect", shipped, "--json"))["profile"] == "w8a8"
    assert json.loads(alone("-m", "dfqsam", "inspect", shipped, "--self-test", "--json"))["passed"]
    box = ("--box", "10,10,60,60", "-o", tmp_path / "m.png", "--json")
    assert "pixels" in json.loads(alone("-m", "dfqsam", "segment", tmp_path / "p.png", *box))
    toy_bundle(tmp_path / "toy", 1)
    write_manifest(tmp_path / "few", {"p1": [100], "p2": [90]})
    said = alone("-m", "dfqsam", "evaluate", tmp_path / "toy", tmp_path / "few", "-o", tmp_path / "e", "--json")
    assert json.loads(said)["prompts"]["exact"]
    alone("-m", "dfqsam", "keygen", "-o", tmp_path / "k")
    alone("-m", "dfqsam", "sign", tmp_path / "toy", "--key", tmp_path / "k", "--audit", tmp_path / "a.sqlite")
    assert "is whole" in alone("-m", "dfqsam", "verify", tmp_path / "toy", "--trust", tmp_path / "k.pub")
    alone("-m", "dfqsam", "sbom", "-o", tmp_path / "sbom.json")


def test_quantize_makes_a_bundle_with_its_records(alone, tmp_path):
    """The default checkpoint comes out of the installed package that carries it."""
    options = ("--preset", "plain", "--method", "shapes", "--images", "2", "--audit", tmp_path / "a.sqlite", "--json")
    made = json.loads(alone("-m", "dfqsam", "quantize", "-o", tmp_path / "bundle", *options))
    bundle = open_bundle(tmp_path / "bundle")
    assert {*RECORDS} < {*bundle.manifest.files}
    assert bundle.manifest.files["encoder.onnx"].sha256.encode() in bundle.read("MODEL_CARD.md")
    (entry,) = json.loads(alone("-m", "dfqsam", "audit", "show", tmp_path / "a.sqlite", "--json"))["entries"]
    assert (entry["kind"], entry["bundle"], entry["profile"]) == ("quantize", made["sha256"], "w8a8")
    alone("-m", "dfqsam", "keygen", "-o", tmp_path / "k")
    alone("-m", "dfqsam", "sign", tmp_path / "bundle", "--key", tmp_path / "k")
    alone("-m", "dfqsam", "verify", tmp_path / "bundle", "--trust", tmp_path / "k.pub")
    assert json.loads(alone("-m", "dfqsam", "inspect", tmp_path / "bundle", "--self-test", "--json"))["passed"]


def test_the_service_answers_without_a_network(alone, tmp_path):
    """With the loopback brought up, which is all that is left; every other address stays out of reach."""
    cv2.imwrite(str(tmp_path / "p.png"), np.full((96, 96, 3), 90, np.uint8))
    code = f"""
import fcntl, re, signal, socket, struct, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP
command = [sys.executable, "-m", "dfqsam", "serve", "--port", "0", "--audit", {str(tmp_path / "a.sqlite")!r}]
server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
address = re.search(r" at (http://\\S+)$", server.stderr.readline().strip())[1]
import httpx
files = {{"image": open({str(tmp_path / "p.png")!r}, "rb"), "prompts": '[{{"box": [10, 10, 60, 60]}}]'}}
print(httpx.post(address + "/v1/segment", files=files, timeout=60).json()["masks"][0]["segmentation"]["size"])
print(httpx.get(address + "/docs").status_code, httpx.get(address + "/openapi.json").status_code)
try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)
except OSError as error:
    print(error.errno)
server.send_signal(signal.SIGTERM)
print(server.wait(60))
"""
    said = alone("-c", code).splitlines()
    assert said[0] == "[96, 96]"
    assert said[1] == "200 200"
    assert int(said[2]) in (101, 111, 113)
    assert said[3] == "0"


def test_the_viewer_starts_and_opens_a_model(alone, tmp_path):
    signed(tmp_path)
    code = f"""
import threading
import numpy as np
from dfqsam.app.models import shared
from dfqsam.app.prompts import Target
from dfqsam.app.serve import MAIN, prepare
from dfqsam.app.settings import Settings
from pathlib import Path
settings = Settings((Path({str(tmp_path / "bundle")!r}),))
flags = prepare(settings, port=8599)
(choice,) = shared(settings)[0].choices.values()
print(choice.quantized.segment(np.full(({SIDE}, {SIDE}, 3), 90, np.uint8), Target(box=(5, 5, 40, 40))).mask.sum())
from streamlit.web import bootstrap
bootstrap.run(str(MAIN), False, [], flags, stop_immediately_for_testing=True)
print("started")
"""
    said = alone("-c", code).split()
    assert int(said[0]) > 0
    assert said[-1] == "started"


def test_the_runtime_would_leave_something_where_nobody_stops_it(tmp_path):
    """What the tests above look for is what ONNX Runtime does by default: without this they could prove nothing."""
    assert ALONE is not None
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in HIDING}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    model = shipped_bundle() / "decoder.onnx"
    code = f"""
import onnxruntime
onnxruntime.InferenceSession({str(model)!r}, providers=["CPUExecutionProvider"])
print(onnxruntime.__version__)
"""
    done = subprocess.run(
        [*ALONE, sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    version = tuple(map(int, done.stdout.split()[-1].split(".")[:2]))
    if version < (1, 29):
        pytest.skip(f"ONNX Runtime {version} has no telemetry yet")
    assert [path for path in home.rglob("*") if "onnxruntime" in path.name]
