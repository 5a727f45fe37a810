import io
import json
import shutil

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from typer.testing import CliRunner

from dfqsam.assets import shipped_bundle
from dfqsam.bundle import SELF_TEST, open_bundle, write_bundle
from dfqsam.cli import app
from dfqsam.errors import BundleError, InputError
from dfqsam.runtime import Predictor, self_test
from dfqsam.runtime.selftest import PARTS, SelfTest, SelfTestReport, difference, part_means
from tests.bundle.test_bundle import FIELDS


def rewritten(folder, **changed: bytes):
    """The shipped bundle with other files, hashed anew: what a device sees when its own kernels are at fault."""
    bundle = open_bundle(shipped_bundle())
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    return write_bundle(folder, files | {name.replace("__", "."): data for name, data in changed.items()}, **FIELDS)


@pytest.fixture(scope="module")
def encoder() -> onnx.ModelProto:
    return onnx.load_model_from_string(open_bundle(shipped_bundle()).read("encoder.onnx"))


def test_the_shipped_bundle_computes_here_what_it_did_where_it_was_made():
    report = self_test(Predictor(shipped_bundle(), threads=1))
    assert report is not None
    assert report.passed
    assert 0 <= report.error <= report.limit <= 0.1
    report.require()


@pytest.mark.parametrize("layer", ["layers.1.blocks.0.mlp.fc1", "layers.2.blocks.3.attn.qkv", "neck.2"])
def test_a_kernel_that_leaves_out_part_of_a_matrix_is_noticed(layer, encoder, tmp_path):
    faulty = onnx.ModelProto()
    faulty.CopyFrom(encoder)
    tensor = next(t for t in faulty.graph.initializer if t.name == f"encoder.{layer}.codes")
    codes = numpy_helper.to_array(tensor).copy()
    codes[: len(codes) // 8] = 0
    tensor.raw_data = codes.tobytes()
    report = self_test(Predictor(rewritten(tmp_path / "faulty", encoder__onnx=faulty.SerializeToString())))
    assert report is not None
    assert not report.passed
    assert report.error > 2 * report.limit
    with pytest.raises(BundleError, match="This device computes wrong results"):
        report.require()


def test_a_bundle_without_a_self_test_says_so(tmp_path):
    bundle = open_bundle(shipped_bundle())
    files = {name: bundle.read(name) for name in bundle.manifest.files if name != SELF_TEST}
    made = write_bundle(tmp_path / "bundle", files, **FIELDS)
    assert self_test(Predictor(made)) is None
    result = CliRunner().invoke(app, ["inspect", str(made.path), "--self-test"])
    assert isinstance(result.exception, InputError)
    assert "has no self-test; make it again" in str(result.exception)


def test_inspect_runs_it_and_fails_where_it_fails(tmp_path):
    result = CliRunner().invoke(app, ["inspect", str(shipped_bundle()), "--self-test", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["passed"] is True
    test = SelfTest.of(open_bundle(shipped_bundle()))
    assert test is not None
    wrong = SelfTest(test.picture, -test.means, test.mask, test.limit).to_bytes()
    made = rewritten(tmp_path / "other", selftest__npz=wrong)
    result = CliRunner().invoke(app, ["inspect", str(made.path), "--self-test"])
    assert isinstance(result.exception, BundleError)
    assert "do not use the bundle here" in str(result.exception)


def test_a_damaged_self_test_is_refused(tmp_path):
    file = io.BytesIO()
    np.savez(file, picture=np.zeros((2, 2)), means=np.zeros((1, 2, 3)), mask=np.zeros((2, 2)), limit=np.float64(1))
    for data, words in ((b"no archive", "is no self-test"), (file.getvalue(), "other shapes")):
        shutil.rmtree(tmp_path / "bundle", ignore_errors=True)
        with pytest.raises(BundleError, match=words):
            SelfTest.of(rewritten(tmp_path / "bundle", selftest__npz=data))


def test_a_mask_that_differs_fails_whatever_the_embedding_says():
    assert SelfTestReport(0.0, 0.1, 0.96).passed
    assert not SelfTestReport(0.0, 0.1, 0.94).passed
    assert not SelfTestReport(0.2, 0.1, 1.0).passed
    assert difference(np.array([np.nan, 1.0], np.float32), np.ones(2, np.float32)) == np.inf
    assert difference(np.array([1.1, 1.0], np.float32), np.ones(2, np.float32)) == pytest.approx(0.1 / 2**0.5, rel=1e-5)


@given(st.integers(PARTS, 40), st.integers(1, 3))
def test_means_over_parts_keep_what_is_even_and_the_total_of_equal_parts(side, channels):
    even = np.full((1, channels, side, side), 2.5, np.float32)
    assert np.array_equal(part_means(even), np.full((channels, PARTS, PARTS), 2.5, np.float32))
    values = np.arange(channels * (PARTS * 3) ** 2, dtype=np.float32).reshape(1, channels, PARTS * 3, PARTS * 3)
    assert part_means(values).mean() == pytest.approx(values.mean())
