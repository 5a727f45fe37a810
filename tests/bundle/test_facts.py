"""What a manifest says in words: hand-made manifests, and settings that hold anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from dfqsam import console
from dfqsam.assets import shipped_bundle
from dfqsam.bundle import open_bundle, write_bundle
from dfqsam.bundle.facts import facts, layers, size
from dfqsam.bundle.manifest import Manifest
from tests.bundle.test_bundle import FIELDS, FILES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = (
    *("quantized_layers", "layer_bits", "layer_bytes", "weight_bits", "activation_bits", "block", "target"),
    *("changed_by_pass", "parity", "decoder", "full_precision"),
)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return open_bundle(shipped_bundle()).manifest


def test_the_shipped_bundle_is_described_in_words(manifest):
    said = facts(manifest)
    assert said["model"] == "LiteMedSAM (lite-medsam), 256 px, trained on box prompts"
    assert said["profile"] == "w8a8: weights 8 bits, activations 8 bits"
    assert said["layers"] == "46 quantized"
    assert said["bundle, SHA-256"] == manifest.sha256
    assert "encoder.onnx  6.2 MB" in said["files"].splitlines()
    assert "no image was read" in said["provenance"]
    assert "target" not in said  # none was asked for
    assert not any("{" in text for text in said.values())


def test_layers_of_other_bits_are_counted_with_their_bytes(manifest):
    settings = {"quantized_layers": 46, "layer_bits": {"a": 8, "b": 8, "c": 6}}
    sizes = {"layer_bytes": {"a": 700_000, "b": 52_000, "c": 40_000}}
    mixed = replace(manifest, quantization=settings | sizes)
    assert layers(mixed) == "46 quantized, 1 of them with 6 bits (40 kB), 2 of them with 8 bits (0.8 MB)"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"encoder_bytes": 3_600_000}, "an encoder of at most 3.6 MB"),
        (
            {"agreement": 95.0, "found": 95.31},
            "masks that agree by 95 on synthetic images kept out of the fit; 95.31 were reached",
        ),
    ],
)
def test_what_was_asked_for_is_said_with_what_was_reached(manifest, target, words):
    assert facts(replace(manifest, quantization={**manifest.quantization, "target": target}))["target"] == words


def test_blocks_and_activations_in_floating_point_are_said(manifest):
    settings = {"weight_bits": 4, "activation_bits": None, "block": 32}
    said = facts(replace(manifest, profile="w4-only", quantization=settings))
    assert said["profile"] == "w4-only: weights 4 bits in blocks of 32, activations in floating point"


HUGE = 10**400  # JSON holds it, a float does not


@example({"target": {"encoder_bytes": HUGE}, "parity": {"lockstep": HUGE, "mask_dice": 1}}, {})
@example({"quantized_layers": 1, "layer_bits": {"a": 8}, "layer_bytes": {"a": HUGE}}, {})
@given(st.dictionaries(st.sampled_from(SETTINGS), JSON), st.dictionaries(st.text(max_size=8), JSON, max_size=3))
def test_nothing_in_the_settings_makes_it_fail(manifest, settings, others):
    strange = replace(manifest, quantization=settings, calibration=others, provenance=others, versions=others)
    assert all(isinstance(text, str) for text in facts(strange).values())


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 kB"), (99_999, "100 kB"), (100_000, "0.1 MB"), (3_783_967, "3.8 MB")]
)
def test_sizes_are_in_powers_of_ten(count, text):
    assert size(count) == text


def test_marks_and_control_characters_of_a_manifest_stay_text(tmp_path, monkeypatch, capsys):
    model = {**FIELDS["model"], "title": "[red]A[/red] \x1b]0;b\x07 [link=http://c]d[/link]"}
    made = write_bundle(tmp_path / "b", FILES, **{**FIELDS, "model": model}).manifest
    monkeypatch.setattr(console, "Console", lambda: Console(width=200, force_terminal=False))
    console.two_columns("Bundle", facts(made))
    said = capsys.readouterr().out
    assert "[red]A[/red] \N{REPLACEMENT CHARACTER}]0;b\N{REPLACEMENT CHARACTER} [link=http://c]d[/link]" in said
    assert "\x1b" not in said
