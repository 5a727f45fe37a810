"""The same graph in OpenVINO: every stretch between two roundings, compared as exports are with ONNX Runtime."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfqsam.export.parity import encoder_parity
from dfqsam.export.trace import export_encoder
from tests.export.test_encoder import exported
from tests.export.test_vit import quantized_vit

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LIMIT = 1e-2
IN_OPENVINO = Path(__file__).with_name("in_openvino.py")  # no module: OpenVINO is not installed where tests run


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """A folder with OpenVINO, as it is pinned, beside the packages of this interpreter."""
    folder = tmp_path_factory.mktemp("openvino")
    pins = ["-c", ROOT / "constraints.txt", "--target", folder]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", *pins, "openvino", "openvino-telemetry"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"OpenVINO cannot be installed here, and was NOT tested: {done.stderr.strip()[-200:]}")
    return folder


@pytest.fixture
def run(packages, tmp_path) -> Callable[[onnx.ModelProto, np.ndarray], dict[str, np.ndarray]]:
    def run(model: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
        model_file, image_file, output = (tmp_path / name for name in ("model.onnx", "image.npy", "output.npz"))
        onnx.save(model, model_file)
        np.save(image_file, image)
        command = [sys.executable, IN_OPENVINO, model_file, image_file, output]
        environment = {"PYTHONPATH": str(packages), "PATH": ""}
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        with np.load(output) as file:
            return {name: file[name] for name in file.files}

    return run


@pytest.mark.parametrize("profile", ["w8a8", "w6a6", "w4a8", "w4a4"])
def test_a_tinyvit_agrees_in_lockstep(profile, run):
    graph, model = exported(profile)
    picture = np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)
    parity = encoder_parity(model, graph, picture, run)
    assert set(parity.stretches) >= {"neck.2", "embedding"}
    assert parity.worst[1] < LIMIT, parity.worst


def test_a_vit_agrees_in_lockstep(run):
    graph = quantized_vit()
    picture = np.random.default_rng(0).integers(0, 256, (256, 130, 3), dtype=np.uint8)
    assert encoder_parity(export_encoder(graph, 256), graph, picture, run).worst[1] < LIMIT


def test_a_wrong_weight_is_seen(run):
    graph, model = exported("w8a8")
    graph.encoder.get_submodule("layers.2.blocks.0.attn.proj").codes[0, 0] += 60
    picture = np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)
    assert encoder_parity(model, graph, picture, run).worst[1] > LIMIT
