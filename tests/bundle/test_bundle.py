import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfqsam.bundle import open_bundle, write_bundle
from dfqsam.errors import BundleError

FIELDS = {
    "model": {
        "family": "lite-medsam",
        "title": "LiteMedSAM",
        "image_size": 256,
        "checkpoint_sha256": "0" * 64,
        "licence": "Apache-2.0",
    },
    "preprocessing": {"kind": "minmax"},
    "prompts": ["box"],
    "profile": "w8a8",
    "quantization": {"weight_bits": 8},
    "calibration": {"method": "shapes", "seed": 0},
    "provenance": {"images_read": 0},
    "versions": {"onnx": "1"},
}
FILES = {"encoder.onnx": b"encoder bytes", "decoder.onnx": b"decoder bytes"}


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle", FILES, **FIELDS)


def test_what_is_written_is_read_back(bundle):
    again = open_bundle(bundle.path)
    assert again.manifest == bundle.manifest
    assert again.manifest.prompts == ("box",)
    assert {name: again.read(name) for name in FILES} == FILES
    assert sorted(os.listdir(bundle.path.parent)) == ["bundle"]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    texts = [
        (write_bundle(tmp_path / name, FILES, **FIELDS).path / "manifest.json").read_bytes() for name in ("a", "b")
    ]
    assert texts[0] == texts[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_in_any_file_is_noticed(bundle, data):
    path = bundle.path / data.draw(st.sampled_from([*FILES, "manifest.json"]))
    original = path.read_bytes()
    at = data.draw(st.integers(0, 8 * len(original) - 1))
    flipped = bytearray(original)
    flipped[at // 8] ^= 1 << (at % 8)
    path.write_bytes(bytes(flipped))
    try:
        with pytest.raises(BundleError):
            open_bundle(bundle.path)
    finally:
        path.write_bytes(original)
    open_bundle(bundle.path)


def test_files_that_were_added_removed_or_linked_are_noticed(bundle):
    extra = bundle.path / "notes.txt"
    extra.write_text("x")
    with pytest.raises(BundleError, match="not named in the manifest"):
        open_bundle(bundle.path)
    extra.unlink()
    encoder = bundle.path / "encoder.onnx"
    elsewhere = bundle.path.parent / "elsewhere"
    encoder.rename(elsewhere)
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        open_bundle(bundle.path)
    encoder.symlink_to(elsewhere)
    with pytest.raises(BundleError, match="link"):
        open_bundle(bundle.path)


def test_a_file_swapped_after_opening_is_not_handed_out(bundle):
    (bundle.path / "encoder.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match="does not match its hash"):
        bundle.read("encoder.onnx")


def test_other_directories_are_not_overwritten_and_bundles_are(tmp_path, bundle):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="holds other files"):
        write_bundle(tmp_path / "mine", FILES, **FIELDS)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    replaced = write_bundle(bundle.path, {**FILES, "encoder.onnx": b"new"}, **FIELDS)
    assert replaced.read("encoder.onnx") == b"new"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": []}, "prompts"),
        ({"prompts": ["voice"]}, "prompts"),
        ({"profile": 8}, "profile"),
        ({"model": {**FIELDS["model"], "image_size": 0}}, "image size"),
        ({"model": {**FIELDS["model"], "checkpoint_sha256": "abc"}}, "SHA-256"),
        ({"model": {**FIELDS["model"], "owner": "me"}}, "owner"),
    ],
)
def test_fields_out_of_range_are_refused_in_one_sentence(tmp_path, change, words):
    with pytest.raises(BundleError, match=words) as error:
        write_bundle(tmp_path / "b", FILES, **{**FIELDS, **change})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b").exists()


def test_an_unknown_key_in_the_manifest_is_refused(bundle):
    path = bundle.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "run": "rm"}))
    with pytest.raises(BundleError):
        open_bundle(bundle.path)


def test_missing_places_say_so(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        open_bundle(tmp_path / "none")
    with pytest.raises(BundleError, match="not a bundle"):
        open_bundle(tmp_path)
