"""Bits of layers for a size and for an agreement, on a small SAM."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from dfqsam import mixed, pipeline
from dfqsam.bundle.facts import facts
from dfqsam.config import PRESETS, QuantConfig, SynthesisConfig
from dfqsam.errors import InputError
from dfqsam.mixed import agreeing, full_precision_bytes, settled_bits
from dfqsam.quant import teaching
from dfqsam.quant.agreement import Agreement
from dfqsam.quant.encoder import quantizable, quantized_layers
from dfqsam.quant.learn.decoder import Course
from dfqsam.synth.shapes import shapes
from tests.small_bundle import small_sam
from tests.small_sam import tiny_sam


class Counts:
    """Agreement is the number of layers at eight bits."""

    @classmethod
    def of(cls, *_args):
        return cls()

    def __call__(self, encoder, _prompter):
        return float(sum(layer.weight_bits == 8 for layer in quantized_layers(encoder).values()))


def test_bytes_of_full_precision_are_four_a_value():
    sam = tiny_sam()
    values = sum(p.numel() for p in sam.encoder.parameters())
    assert full_precision_bytes(sam.encoder) >= 4 * values


def test_w4a8_keeps_layers_at_eight_bits_within_its_share_and_other_profiles_are_left_alone():
    sam, pictures = tiny_sam(), list(shapes(2, 64, 0))
    plain = QuantConfig.of("w4a8", "plain")
    assert plain.file_share == pytest.approx(1 / 6)
    assert settled_bits(sam, pictures, replace(plain, file_share=100.0)).layer_bits
    tight = replace(plain, file_share=1e-6)
    assert settled_bits(sam, pictures, tight) == tight  # nothing is that small: four bits everywhere
    whole = QuantConfig.of("w8a8")
    assert settled_bits(sam, pictures, whole) == whole


def test_an_agreement_takes_as_few_bytes_as_it_needs(monkeypatch):
    sam, pictures = tiny_sam(), list(shapes(3, 64, 0))
    config = QuantConfig.of("w4a8", "plain")
    names = [site.name for site in quantizable(sam.sites(), config)]
    chosen, found = agreeing(sam, pictures, config, 0.0)
    assert chosen.config.layer_bits == ()
    assert 0 <= found <= 100

    monkeypatch.setattr(mixed, "Agreement", Counts)
    some, found = agreeing(sam, pictures, config, 3.0)
    kept = {name for name, layer in quantized_layers(some.sam.encoder).items() if layer.weight_bits == 8}
    assert kept == {name for name, _ in some.config.layer_bits}
    assert found == len(kept)  # of the chosen one, not of the last one that was tried
    assert 3 <= len(kept) < len(names)
    assert some.config.file_share is None
    with pytest.raises(InputError, match=f"agree by {len(names)}.0, less than the 100"):
        agreeing(sam, pictures, config, 100.0)


@pytest.fixture
def quantize(monkeypatch, tmp_path):
    """The whole main job, on a small model."""
    monkeypatch.setattr(pipeline, "load", lambda *_: (small_sam("lite-medsam", 64), "0" * 64))

    def run(name, preset="plain", **target):
        drawn = SynthesisConfig("shapes", images=2)
        return pipeline.quantize(
            None, tmp_path / name, profile="w4a8", preset=preset, synthesis=drawn, **target
        ).manifest

    return run


def test_a_bundle_says_which_agreement_was_asked_for_and_reached(quantize, monkeypatch):
    monkeypatch.setattr(mixed, "Agreement", Counts)
    made = quantize("a", target_agreement=3)
    settings = made.quantization
    eight = [name for name, bits in settings["layer_bits"].items() if bits == 8]
    assert made.profile == "w4a8-mixed"
    assert settings["target"] == {"agreement": 3, "found": len(eight)}
    assert 3 <= len(eight) < settings["quantized_layers"]
    assert facts(made)["layers"].startswith(
        f"{settings['quantized_layers']} quantized, {len(eight)} of them with 8 bits"
    )


def test_what_was_judged_is_exported_with_the_decoder_that_was_taught(quantize, monkeypatch):
    judged, exported = [], []
    monkeypatch.setattr(teaching, "course_here", lambda: Course(steps=2, batch=1, checks=2, prompts=2))
    monkeypatch.setattr(Agreement, "__call__", lambda _self, *asked: judged.append(asked) or 50.0)
    monkeypatch.setattr(pipeline, "build_bundle", lambda *a: exported.append(a[-1]) or SimpleNamespace(manifest=None))
    quantize("a", "taught", target_agreement=40)
    ((encoder, prompter),), (made,) = judged, exported
    assert made.sam.encoder is encoder
    assert made.sam.mask_decoder is prompter.mask_decoder
    assert set(made.changed) == set(PRESETS["taught"])


def test_a_bundle_stays_within_the_size_that_was_asked_for_or_is_refused(quantize, monkeypatch):
    export, measured = mixed._file_bytes, []  # of four bits everywhere, the same in both calls, and slow

    def once(*which):
        if not measured:
            measured.append(export(*which))
        return measured[0]

    monkeypatch.setattr(mixed, "_file_bytes", once)
    with pytest.raises(InputError, match=r"The smallest weights take .* bytes; .* are too few"):
        quantize("none", target_bytes=1000)
    sam = small_sam("lite-medsam", 64)
    sizes = mixed.sizes(sam.encoder, mixed._layers(sam, QuantConfig.of("w4a8"))).values()
    more = sum(by_bits[8] - by_bits[4] for by_bits in sizes)
    allowed = measured[0] + mixed.SLACK * len(sizes) + more // 2
    made = quantize("made", target_bytes=allowed)
    assert made.files["encoder.onnx"].bytes <= allowed
    assert 0 < len(made.quantization["layer_bits"]) < len(sizes)
    assert made.quantization["target"] == {"encoder_bytes": allowed}
