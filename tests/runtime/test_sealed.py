import os
import subprocess
import sys

import numpy as np
import pytest

from dfqsam.assets import shipped_bundle
from dfqsam.bundle import open_bundle, write_bundle
from dfqsam.errors import BundleError
from dfqsam.runtime.sealed import sealed
from dfqsam.runtime.sessions import open_graph, session
from tests.bundle.test_bundle import FIELDS, FILES

linux = pytest.mark.skipif(sys.platform != "linux", reason="sealed memory is Linux's")


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle", FILES, **FIELDS)


@linux
def test_a_sealed_copy_has_the_bytes_and_nobody_can_change_them(bundle):
    with sealed(bundle, "encoder.onnx") as path:
        (bundle.path / "encoder.onnx").write_bytes(b"something else")
        with open(path, "rb") as file:
            assert file.read() == FILES["encoder.onnx"]
        with pytest.raises(PermissionError), open(path, "r+b") as file:
            file.write(b"x")
        with pytest.raises(PermissionError):
            os.truncate(path, 0)
    assert not os.path.exists(path)


def test_what_was_altered_or_is_not_there_gives_no_copy(bundle):
    with pytest.raises(BundleError, match=r"has no weights\.bin"), sealed(bundle, "weights.bin"):
        pytest.fail("there is no such file")
    (bundle.path / "encoder.onnx").write_bytes(FILES["encoder.onnx"].upper())
    with pytest.raises(BundleError, match="does not match its hash"), sealed(bundle, "encoder.onnx"):
        pytest.fail("the file was altered")


def test_systems_without_sealed_memory_get_the_bytes(bundle, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with sealed(bundle, "decoder.onnx") as model:
        assert model == FILES["decoder.onnx"]


def test_a_graph_computes_the_same_from_a_path_and_from_bytes():
    bundle, rng = open_bundle(shipped_bundle()), np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    (first,) = open_graph(bundle, "encoder.onnx", 1).run(None, {"image": image})
    (second,) = session(bundle.read("encoder.onnx"), 1).run(None, {"image": image})
    assert np.array_equal(first, second)


def test_what_is_no_model_is_refused_in_one_sentence(bundle):
    with pytest.raises(BundleError, match=r"encoder\.onnx is refused: .* get the bundle from its maker again"):
        open_graph(bundle, "encoder.onnx")
    with pytest.raises(BundleError, match=r"ONNX Runtime .* cannot load the model"):
        session(FILES["encoder.onnx"])


@linux
def test_loading_a_large_file_holds_no_second_copy_of_it(tmp_path):
    """The bytes of the file are never all in this process: what it holds at its peak shows."""
    size = 100_000_000
    program = """
import sys
from dfqsam.bench.child import peak_megabytes
from dfqsam.bundle import open_bundle
from dfqsam.runtime.sealed import sealed
bundle = open_bundle(sys.argv[1])
before = peak_megabytes()
with sealed(bundle, "encoder.onnx"):
    print(peak_megabytes() - before)
"""
    files = {**FILES, "encoder.onnx": bytes(size)}
    path = write_bundle(tmp_path / "large", files, **FIELDS).path
    result = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert float(result.stdout) < size / 1e6 / 5
