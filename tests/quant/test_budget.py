import copy

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.errors import InputError
from dfqsam.mixed import within
from dfqsam.quant.budget import sizes, stored_bytes, weight_errors
from dfqsam.quant.encoder import quantizable, quantize_encoder, quantized_layers
from dfqsam.synth.shapes import shapes
from tests.small_sam import tiny_sam


def test_bytes_by_hand():
    assert [stored_bytes(torch.zeros(3, 5), bits) for bits in (3, 4, 6, 8)] == [8, 8, 15, 15]


def test_eight_bits_err_less_than_four_and_the_encoder_is_left_alone():
    sam = tiny_sam()
    before = copy.deepcopy(sam.encoder.state_dict())
    sites = [site for site in quantizable(sam.sites(), QuantConfig()) if site.kind != "product"]
    images = [sam.normalise(picture) for picture in shapes(2, 64, 0)[:, None]]
    calls = []
    found = weight_errors(sam.encoder, sites, sam.units(), images, advance=lambda: calls.append(1))
    assert set(found) == set(sizes(sam.encoder, sites)) == {site.name for site in sites}
    assert len(calls) == len(sites)
    assert all(0 <= by_bits[8] < by_bits[4] for by_bits in found.values())
    assert all(torch.equal(value, before[name]) for name, value in sam.encoder.state_dict().items())


def test_a_file_that_may_be_larger_gets_eight_bits_where_they_matter_and_one_too_small_is_refused():
    sam, images = tiny_sam(), shapes(2, 64, 0)
    plain = QuantConfig.of("w4a8")
    sites = [site for site in quantizable(sam.sites(), plain) if site.kind != "product"]
    whole = sum(by_bits[8] for by_bits in sizes(sam.encoder, sites).values())
    config = within(sam, images, plain, 2_000_000)
    assert {name for name, _ in config.layer_bits} == {site.name for site in sites}  # there is room for all
    with pytest.raises(InputError, match="too few"):
        within(sam, images, plain, whole // 4)
    encoder = copy.deepcopy(sam.encoder)
    some = QuantConfig("mixed", 4, 8, layer_bits=config.layer_bits[:2])
    quantize_encoder(encoder, sam.sites(), [sam.normalise(images)], 1, some)
    bits = {name: layer.weight_bits for name, layer in quantized_layers(encoder).items()}
    assert [name for name, count in bits.items() if count == 8] == [name for name, _ in config.layer_bits[:2]]
