"""Bits of layers for a size and for an agreement, on a small SAM."""

from dataclasses import replace

import pytest

from dfqsam import mixed
from dfqsam.config import QuantConfig
from dfqsam.errors import InputError
from dfqsam.mixed import agreeing, full_precision_bytes, settled_bits
from dfqsam.quant.encoder import quantizable
from dfqsam.synth.shapes import shapes
from tests.small_sam import tiny_sam


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
    assert agreeing(sam, pictures, config, 0.0).layer_bits == ()

    class Counts:
        """Agreement is the number of layers at eight bits."""

        @classmethod
        def of(cls, *_args):
            return cls()

        def __call__(self, encoder):
            from dfqsam.quant.encoder import quantized_layers

            return float(sum(layer.weight_bits == 8 for layer in quantized_layers(encoder).values()))

    monkeypatch.setattr(mixed, "Agreement", Counts)
    some = agreeing(sam, pictures, config, 3.0)
    assert 3 <= len(some.layer_bits) < len(names)
    assert some.file_share is None
    with pytest.raises(InputError, match=f"agree by {len(names)}.0, less than the 100"):
        agreeing(sam, pictures, config, 100.0)
