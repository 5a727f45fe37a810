import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.config import QuantConfig
from dfqsam.quant.encoder import quantize_encoder, quantized_layers
from dfqsam.quant.grid import weight_scales
from dfqsam.quant.layers import QuantizedLinear, require_on_grid
from dfqsam.quant.passes import mend
from dfqsam.quant.ranges import search_range
from dfqsam.quant.rotation import block_side, hadamard, rotate
from dfqsam.quant.work import Work
from dfqsam.synth.shapes import shapes
from tests.small import tiny_encoder


def test_four_channels_by_hand():
    x = torch.tensor([8.0, 0, 0, 0])
    assert rotate(x).tolist() == [4, 4, 4, 4]
    assert rotate(torch.tensor([1.0, 2, 3, 4])).tolist() == [5, -1, -2, 0]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2, 3, 6, 16, 40, 160]), st.integers(0, 2**31))
def test_a_rotation_undoes_itself_and_keeps_products(channels, seed):
    x, w = torch.randn(2, 5, channels, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(rotate(rotate(x)), x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rotate(x) @ rotate(w).T, x @ w.T, rtol=1e-3, atol=1e-3)
    side = block_side(channels)
    torch.testing.assert_close(hadamard(side) @ hadamard(side), torch.eye(side), rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_large_channel_costs_a_rotated_layer_less():
    torch.manual_seed(0)
    linear, values = torch.nn.Linear(64, 8), torch.randn(1, 500, 64)
    values[..., 5] *= 60

    def error(rotated: bool) -> float:
        weight, seen = (rotate(linear.weight), rotate(values)) if rotated else (linear.weight, values)
        scale, grid = weight_scales(weight, 8, pairs=True), search_range(seen, 4)
        layer = QuantizedLinear.of(linear, scale, grid, 8, rotated=rotated)
        return float((layer(values) - linear(values)).square().mean())

    assert error(True) < 0.5 * error(False)


@torch.no_grad()
def test_an_encoder_is_rotated_behind_its_norms_and_can_be_mended_but_not_deployed():
    reference, images = tiny_encoder(), list(shapes(4, 64, 0)[:, None] - 0.5)
    encoder = copy.deepcopy(reference)
    config = replace(QuantConfig.of("W4A4"), reparameterize="rotation")
    quantize_encoder(encoder, encoder.sites(), images, len(images), config)
    rotated = {name for name, layer in quantized_layers(encoder).items() if layer.rotated}
    behind = {site.name for site in encoder.sites() if site.norm is not None}
    assert rotated == {name for name in behind if isinstance(reference.get_submodule(name), torch.nn.Linear)}
    assert rotated
    work = Work(reference, encoder, encoder.sites(), [], [], images)
    assert mend(work, ("weights",))["weights"] > 0
    require_on_grid(encoder)
    assert not replace(QuantConfig.of("w4a4"), reparameterize="rotation").deployable


@pytest.mark.parametrize("bits", [4, 8])
@torch.no_grad()
def test_a_rotated_layer_is_the_same_layer(bits):
    torch.manual_seed(0)
    linear, values = torch.nn.Linear(12, 8), torch.randn(1, 50, 12)
    scale, grid = weight_scales(rotate(linear.weight), 8, pairs=True), search_range(rotate(values), bits)
    layer = QuantizedLinear.of(linear, scale, grid, 8, rotated=True)
    error = (layer(values) - linear(values)).square().mean() / linear(values).var()
    assert float(error) < {4: 0.03, 8: 3e-4}[bits]
