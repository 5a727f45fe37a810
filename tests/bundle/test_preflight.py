"""No byte of a graph that a bundle may not hold reaches ONNX Runtime."""

import contextlib
import os
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dfqsam.assets import shipped_bundle
from dfqsam.bundle import open_bundle, wire, write_bundle
from dfqsam.bundle.operators import MICROSOFT, STANDARD
from dfqsam.bundle.preflight import BITS, Contents, check_file, check_graph
from dfqsam.errors import BundleError
from dfqsam.runtime import Predictor
from dfqsam.runtime.sessions import open_graph
from tests.bundle.test_bundle import FIELDS
from tests.bundle.world import MALICIOUS, graph_of, harmless, outside
from tests.evaluate import world


@pytest.fixture
def no_runtime(monkeypatch):
    """ONNX Runtime must not be asked."""

    def asked(*_args, **_options):
        pytest.fail("ONNX Runtime saw the model")

    monkeypatch.setattr(onnxruntime, "InferenceSession", asked)


@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_graphs_are_refused_before_the_runtime_sees_them(name, tmp_path, no_runtime):
    model, words = MALICIOUS[name]
    bundle = write_bundle(tmp_path / "bundle", {"encoder.onnx": model, "decoder.onnx": world.decoder()}, **FIELDS)
    with pytest.raises(BundleError) as error:
        Predictor(bundle)
    assert words in str(error.value)
    assert str(error.value).startswith("encoder.onnx is refused: ")
    assert "\n" not in str(error.value)


def test_weights_behind_links_are_refused_whatever_the_file_is_called(tmp_path, no_runtime):
    """A symbolic link is no file of a bundle; a hard link is one, but no graph may point to it."""
    secret = tmp_path / "secret"
    secret.write_bytes(np.ones(4, np.float32).tobytes())
    files = {"encoder.onnx": outside("selftest.npz"), "decoder.onnx": world.decoder()}
    bundle = write_bundle(tmp_path / "bundle", {**files, "selftest.npz": secret.read_bytes()}, **FIELDS)
    place = bundle.path / "selftest.npz"
    place.unlink()
    place.symlink_to(secret)
    with pytest.raises(BundleError, match="is a link"):
        open_bundle(bundle.path)
    place.unlink()
    os.link(secret, place)
    with pytest.raises(BundleError, match="lies in another file"):
        open_graph(open_bundle(bundle.path), "encoder.onnx")
    shutil.move(place, bundle.path / "weights.bin")
    with pytest.raises(BundleError, match="not named in the manifest"):
        open_bundle(bundle.path)


def test_graphs_of_bundles_pass_and_are_counted(tmp_path):
    for folder in (shipped_bundle(), world.toy_bundle(tmp_path / "toy", 1).path):
        for path in folder.glob("*.onnx"):
            model = onnx.load(path)
            found = check_file(str(path), path.name)
            assert found.nodes == len(model.graph.node)
            held = [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))]
            bits = {TensorProto.INT4: 4, TensorProto.UINT4: 4}
            taken = sum(
                (
                    int(np.prod(t.dims))
                    * bits.get(t.data_type, 8 * helper.tensor_dtype_to_np_dtype(t.data_type).itemsize)
                    + 7
                )
                // 8
                for t in held
            )
            assert found.weights == taken
            assert check_graph(path.read_bytes(), path.name) == found
    assert found.nodes > 5


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.onnx").touch()
    with pytest.raises(BundleError, match=r"a\.onnx is refused: it is empty"):
        check_file(str(tmp_path / "a.onnx"), "a.onnx")


def test_values_are_counted_however_they_are_stored():
    codes = helper.make_tensor("w", TensorProto.INT8, [2, 3], [1, -1, 127, -128, 0, 5])
    halves = helper.make_tensor("h", TensorProto.FLOAT16, [3], [0.5, 1, 2])
    nibbles = helper.make_tensor("n", TensorProto.INT4, [3], [1, -8, 7])
    wide = helper.make_tensor("l", TensorProto.INT64, [2], [-1, 1 << 40])
    double = helper.make_tensor("d", TensorProto.DOUBLE, [2], [1.0, 2.0])
    empty = numpy_helper.from_array(np.zeros((0, 4), np.float32), "e")
    assert not codes.raw_data
    assert not nibbles.raw_data
    model = graph_of([helper.make_node("Add", ["x", "x"], ["y"])], [codes, halves, nibbles, wide, double, empty])
    assert check_graph(model.SerializeToString(), "a") == Contents(1, 6 + 6 + 2 + 16 + 16)


def test_known_operators_hold_no_graphs_and_are_known_to_onnx():
    schemas = {schema.name: schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert schemas.keys() >= STANDARD
    kinds = {a.type for name in STANDARD for a in schemas[name].attributes.values()}
    assert not kinds & {onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS}
    # Every type of weights that ONNX knows, but texts, complex numbers and what ONNX Runtime cannot compute with.
    assert {TensorProto.FLOAT, TensorProto.INT4, TensorProto.UINT8, TensorProto.FLOAT16} <= BITS.keys()
    assert not {TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.UNDEFINED} & BITS.keys()
    assert "MatMulNBits" in MICROSOFT


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_numbers_come_back_packed_or_not(values):
    tensor = TensorProto(dims=values)
    schema = {1: wire.Field("dims", wire.VARINT, repeated=True)}
    found = wire.read(memoryview(tensor.SerializeToString()), schema, "it").get("dims", [])
    assert wire.numbers(found) == values
    assert wire.count(found, wire.VARINT) == len(values)
    packed = TensorProto(int64_data=values).SerializeToString()
    found = wire.read(memoryview(packed), {7: wire.Field("v", wire.VARINT, repeated=True)}, "it").get("v", [])
    assert wire.numbers(found) == values
    assert wire.count(found, wire.VARINT) == len(values)


@settings(max_examples=300, deadline=2000)
@given(data=st.data())
def test_damaged_graphs_give_our_own_error_or_pass(data):
    """Whatever passes is what onnx reads too: nothing hides from one reader and shows itself to the other."""
    model = bytearray(harmless().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(model) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "put", "repeat"]))
        if kind == "flip":
            model[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del model[at : at + data.draw(st.integers(1, 4))]
        elif kind == "put":
            model[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        else:
            model[at:at] = model[at : at + 8]
        if not model:
            break
    try:
        found = check_graph(bytes(model), "a.onnx")
    except BundleError:
        return
    parsed = onnx.load_model_from_string(bytes(model))
    assert found.nodes == len(parsed.graph.node)
    assert not any(tensor.external_data for tensor in parsed.graph.initializer)
    assert {node.op_type for node in parsed.graph.node} <= STANDARD | MICROSOFT


@given(st.binary(max_size=200))
def test_any_bytes_give_our_own_error(data):
    with contextlib.suppress(BundleError):  # any other is a failure
        check_graph(data, "a.onnx")


def test_looking_through_a_graph_copies_nothing_of_it(tmp_path):
    """100 MB of weights, and a process that may hold 32 MB more than it does."""
    import subprocess

    if sys.platform != "linux":
        pytest.skip("memory is read from /proc")
    weights = np.zeros(25_000_000, np.float32)
    node = helper.make_node("Add", ["x", "x"], ["y"])
    path = tmp_path / "large.onnx"
    path.write_bytes(graph_of([node], [numpy_helper.from_array(weights, "w")]).SerializeToString())
    program = """
import sys
from dfqsam.bundle.preflight import check_file
from dfqsam.bench.child import peak_megabytes
before = peak_megabytes()
print(check_file(sys.argv[1], "large.onnx").weights, peak_megabytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    taken, grown = done.stdout.split()
    assert int(taken) == 100_000_000
    assert float(grown) < 32
