"""The oldest ONNX Runtime that pyproject allows, in a virtual environment of its own, without torch."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from dfqsam.assets import shipped_bundle
from dfqsam.config import QuantConfig
from tests.runtime import elsewhere
from tests.small_bundle import bundle_on_integers, small_bundle, small_sam

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CHAOS = 0.1  # relative difference of embeddings; rounding alone makes 0.04


def needs() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def oldest() -> str:
    found = [re.fullmatch(r"onnxruntime>=([\d.]+)", need) for need in needs()]
    (version,) = [match[1] for match in found if match]
    return version if version.count(".") == 2 else f"{version}.0"


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """An interpreter with the oldest ONNX Runtime and what else the base install needs, as it is pinned."""
    folder = tmp_path_factory.mktemp("oldest")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("onnxruntime")]
    (folder / "pins.txt").write_text("\n".join(pins))
    others = [need for need in needs() if not need.startswith("onnxruntime")]
    python = folder / "venv" / "bin" / "python"
    command = [python, "-m", "pip", "install", "-q", "-c", folder / "pins.txt", f"onnxruntime=={oldest()}", *others]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(
            f"onnxruntime {oldest()} cannot be installed here, and was NOT tested: {done.stderr.strip()[-200:]}"
        )
    return python


def computed(python: Path, bundle: Path, output: Path) -> dict[str, np.ndarray]:
    command = [str(python), elsewhere.__file__, str(bundle), str(output)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(output) as file:
        return {name: file[name] for name in file.files}


def difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    embedding = expected["embedding"]
    return float(np.linalg.norm(found["embedding"] - embedding) / np.linalg.norm(embedding))


def test_the_shipped_bundle_computes_the_same_up_to_the_chaos_of_rounding(python, tmp_path):
    old = computed(python, shipped_bundle(), tmp_path / "old.npz")
    new = computed(Path(sys.executable), shipped_bundle(), tmp_path / "new.npz")
    assert str(old["version"]) == oldest() != str(new["version"])
    assert bool(old["passed"])
    assert float(old["dice"]) >= 0.95
    assert difference(old, new) < CHAOS


def test_weights_in_blocks_are_computed_exactly(python, tmp_path):
    bundle = small_bundle(tmp_path / "bundle", small_sam("sam-med2d", 64), QuantConfig.of("w4-only", "plain"))
    old = computed(python, bundle.path, tmp_path / "old.npz")
    new = computed(Path(sys.executable), bundle.path, tmp_path / "new.npz")
    assert bool(old["passed"])
    assert difference(old, new) < 1e-4  # no activation is rounded, and nothing chaotic about it


def test_attention_on_integers_is_computed_the_same(python, tmp_path, monkeypatch):
    bundle = bundle_on_integers(tmp_path / "bundle", monkeypatch)
    old = computed(python, bundle.path, tmp_path / "old.npz")
    new = computed(Path(sys.executable), bundle.path, tmp_path / "new.npz")
    assert bool(old["passed"])
    assert difference(old, new) < CHAOS
