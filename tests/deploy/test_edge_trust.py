"""What the package refuses, the single file refuses too, before ONNX Runtime sees a byte; and it checks the device."""

import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import onnxruntime
import pytest

from dfqsam.bundle import open_bundle, write_bundle
from dfqsam.bundle.keys import make_keys
from dfqsam.bundle.sign import Signer, sign_bundle
from dfqsam.errors import BundleError
from dfqsam.runtime import Predictor
from dfqsam.runtime.selftest import make_self_test
from tests.bundle.test_bundle import FIELDS
from tests.bundle.world import MALICIOUS, signed
from tests.deploy.world import EDGE, edge_module
from tests.evaluate import world

edge_infer = edge_module()
FLIPS = 200
# What needs a list of every operator or the size of every tensor is left to ONNX Runtime's own checks, which refuse it.
BY_RUNTIME = {"unknown operator", "claims 4 TB", "negative side", "more than it holds", "less than it holds"}
BY_RUNTIME |= {"nine dimensions", "values twice", "texts", "attribute of a function", "overload", "absurd input"}
BY_RUNTIME |= {"sequence", "two graphs", "unknown field", "no graph", "cut short"}
# Harmless as they are; the package refuses them as no bundle needs them.
HARMLESS = {"nine dimensions", "values twice", "texts", "attribute of a function", "overload", "absurd input"}
HARMLESS |= {"sequence", "two graphs", "unknown field"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A signed bundle, its key, another key, and a machine without a trust store of its own."""
    monkeypatch.setattr(edge_infer, "SITE", tmp_path / "none")
    signed(tmp_path)
    make_keys(tmp_path / "other")
    return tmp_path


def refused(folder, words, **how):
    with pytest.raises(edge_infer.EdgeError, match=words) as error:
        edge_infer.Edge(folder, **how)
    assert "\n" not in str(error.value)


@pytest.fixture(params=["cryptography", "openssl"])
def verifier(request, monkeypatch):
    """Signatures verified by the package, or by the program where the package is not there."""
    if request.param == "openssl":
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl")
        for name in ("cryptography", "cryptography.exceptions"):
            monkeypatch.setitem(sys.modules, name, None)


def test_a_bundle_runs_where_a_trusted_key_has_signed_it(site, verifier):
    bundle, key, other = site / "bundle", site / "hospital.pub", site / "other.pub"
    assert edge_infer.Edge(bundle, trust=[key]).sha256 == open_bundle(bundle).sha256
    edge_infer.Edge(bundle, trust=[other, key])
    edge_infer.Edge(bundle, trust=[site])  # a folder of keys
    refused(bundle, "signed by a key that is not trusted here", trust=[other])
    refused(bundle, "is signed, but no key is trusted here")
    edge_infer.Edge(bundle, allow_unsigned=True)
    flipped = bytearray((bundle / "manifest.sig").read_bytes())
    flipped[5] ^= 4
    (bundle / "manifest.sig").write_bytes(flipped)
    refused(bundle, "signed by a key that is not trusted here", trust=[key])
    (bundle / "manifest.sig").unlink()
    refused(bundle, "is not signed; to run it all the same: --allow-unsigned", trust=[key])


def test_the_site_counts_before_the_variable(site, monkeypatch):
    monkeypatch.setenv("DFQSAM_TRUST", str(site / "hospital.pub"))
    edge_infer.Edge(site / "bundle")
    store = site / "store"
    store.mkdir()
    monkeypatch.setattr(edge_infer, "SITE", store)
    refused(site / "bundle", "holds no public key")
    shutil.copy(site / "other.pub", store)
    refused(site / "bundle", "not trusted here")


def test_what_is_no_key_is_refused(site):
    (site / "bad.pub").write_bytes(b"-----BEGIN PUBLIC KEY-----\n")
    refused(site / "bundle", "is no Ed25519 public key", trust=[site / "bad.pub"])
    refused(site / "bundle", "cannot be read", trust=[site / "none.pub"])


def test_200_of_200_flipped_bits_are_refused(site):
    files = sorted((site / "bundle").iterdir())
    chance = random.Random(1)
    for number in range(FLIPS):
        path = files[number % len(files)]
        original = path.read_bytes()
        flipped, at = bytearray(original), chance.randrange(8 * len(original))
        flipped[at // 8] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        with pytest.raises(edge_infer.EdgeError):
            edge_infer.Edge(site / "bundle", trust=[site / "hospital.pub"])
        path.write_bytes(original)
    edge_infer.Edge(site / "bundle", trust=[site / "hospital.pub"])


def test_every_change_of_the_set_of_files_is_refused(site):
    folder, how = site / "bundle", {"trust": [site / "hospital.pub"]}
    for name in ("encoder.onnx", "decoder.onnx", "manifest.json"):
        (folder / name).rename(site / name)
        refused(folder, "missing|cannot be read", **how)
        (folder / name).symlink_to(site / name)
        refused(folder, "cannot be read", **how)
        (folder / name).unlink()
        (site / name).rename(folder / name)
    for name in ("notes.txt", "MODEL_CARD.md", ".hidden", "manifest.sig.bak"):
        (folder / name).write_bytes(b"added")
        refused(folder, "not in the manifest", **how)
        (folder / name).unlink()
    (folder / "sub").mkdir()
    refused(folder, "not in the manifest", **how)
    (folder / "sub").rmdir()
    edge_infer.Edge(folder, **how)


@pytest.mark.parametrize("change", ["format", "no files", "list", "size", "NaN", "twice"])
def test_manifests_of_other_forms_are_refused_even_with_a_hash_that_fits(site, change):
    place = site / "bundle" / "manifest.json"
    document = json.loads(place.read_bytes())
    document.pop("sha256")
    if change == "format":
        document["format"] = 2
    elif change == "no files":
        document["files"] = {}
    elif change == "list":
        document = [document]
    elif change == "size":
        document["model"]["image_size"] = 1 << 20
    data = edge_infer._canonical(document)
    if type(document) is dict:
        data = edge_infer._canonical({**document, "sha256": hashlib.sha256(data).hexdigest()})
    data = {"NaN": data.replace(b'"format": 1', b'"format": NaN'), "twice": data[:-3] + b',\n"format": 1\n}\n'}.get(
        change, data
    )
    place.write_bytes(data)
    refused(site / "bundle", "damaged or of another format", allow_unsigned=True)


@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_graphs_are_refused(name, tmp_path, monkeypatch):
    model, _ = MALICIOUS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "selftest.npz").write_bytes(np.ones(4, np.float32).tobytes())  # what external data would reach
    (tmp_path / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    (tmp_path / "link.bin").symlink_to(tmp_path / "w.bin")
    write_bundle(tmp_path / "b", {"encoder.onnx": model, "decoder.onnx": world.decoder()}, **FIELDS)
    if name not in BY_RUNTIME:
        monkeypatch.setattr(
            onnxruntime, "InferenceSession", lambda *_a, **_k: pytest.fail("ONNX Runtime saw the model")
        )
        refused(tmp_path / "b", "holds what no bundle of dfqsam holds", allow_unsigned=True)
    elif name not in HARMLESS:
        refused(tmp_path / "b", "cannot load encoder|holds what no bundle", allow_unsigned=True)


def test_a_device_that_computes_wrong_results_serves_nothing(tmp_path):
    bundle = world.toy_bundle(tmp_path / "plain", 1, full=False)
    test = make_self_test(bundle, np.full((64, 64, 3), 90, np.uint8))
    files = {name: bundle.read(name) for name in ("encoder.onnx", "decoder.onnx")}
    fields = {name: value for name, value in asdict(bundle.manifest).items() if name not in ("format", "files")}

    def made(name, test):
        write_bundle(tmp_path / name, {**files, "selftest.npz": test}, **fields)
        return tmp_path / name

    edge_infer.Edge(made("right", test.to_bytes()), allow_unsigned=True)
    for name, changed in (("means", 1.1), ("mask", 1.0)):
        mask = test.mask if name == "means" else ~test.mask
        other = type(test)(test.picture, test.means * np.float32(changed), mask, test.limit)
        folder = made(name, other.to_bytes())
        refused(folder, "This device computes wrong results", allow_unsigned=True)
        edge_infer.Edge(folder, allow_unsigned=True, self_test=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("DFQSAM_SKIP_SELF_TEST")
            with pytest.raises(BundleError, match="This device computes wrong results"):
                Predictor(folder)
    smaller = type(test)(test.picture, test.means, test.mask[:-1], test.limit)
    refused(made("smaller", smaller.to_bytes()), "is of another model", allow_unsigned=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DFQSAM_SKIP_SELF_TEST")
        with pytest.raises(BundleError, match="a mask of another form"):
            Predictor(tmp_path / "smaller")
    empty = io.BytesIO()
    np.savez(empty, picture=1)
    refused(made("other", empty.getvalue()), "is no self-test", allow_unsigned=True)
    refused(made("damaged", b"PK\3\4"), "is no self-test", allow_unsigned=True)


def test_the_command_line_refuses_in_one_line(site):
    sign_bundle(site / "bundle", Signer(site / "other"))
    command = [sys.executable, EDGE, site / "bundle", "none.png", "--box", "1", "1", "9", "9"]
    done = subprocess.run([*command, "--trust", site / "hospital.pub"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "not trusted here" in done.stderr
