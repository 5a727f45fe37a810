import copy

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.errors import InputError
from dfqsam.quant.layers import on_grid
from dfqsam.quant.observe import observe
from dfqsam.quant.passes import quantizable, quantize_encoder, quantized_layers
from dfqsam.quant.reparameterize import reparameterize
from dfqsam.quant.rounding import round_to_grid, round_weights
from tests.small import tiny_encoder


def images(count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(1, 3, 64, 64, generator=generator) for _ in range(count)]


def test_reparameterization_keeps_what_the_encoder_computes():
    encoder, x = tiny_encoder(), images(1)[0]
    before = encoder(x)
    fed = [site for site in encoder.sites() if site.norm]
    assert len(fed) == 7  # qkv and fc1 of three blocks, and the neck's 3x3 convolution
    for site in fed:
        layer, norm = encoder.get_submodule(site.name), encoder.get_submodule(site.norm)
        values = observe(encoder, [site.name], [x], 1, 1 << 16)[site.name]
        low, high = values.amin(0), values.amax(0)
        new = reparameterize(norm, layer, values)
        spread = new.amax(0) - new.amin(0)
        assert spread.max() / spread.min() < (high - low).max() / (high - low).min()
    after = encoder(x)
    assert float((after - before).norm() / before.norm()) < 1e-5


def test_reparameterized_channels_have_equal_reach():
    encoder, x = tiny_encoder(), images(1)[0]
    site = next(site for site in encoder.sites() if site.norm)
    values = observe(encoder, [site.name], [x], 1, 1 << 20)[site.name]
    new = reparameterize(encoder.get_submodule(site.norm), encoder.get_submodule(site.name), values)
    reach = new.abs().amax(0)
    assert float(reach.max() / reach.min()) < 1.01


def test_every_linear_and_dense_convolution_is_quantized_and_on_its_grid():
    encoder = tiny_encoder()
    config = QuantConfig.of("w4a8")
    expected = [site.name for site in quantizable(encoder.sites(), config)]
    done = quantize_encoder(encoder, encoder.sites(), images(), 2, config)
    layers = quantized_layers(encoder)
    assert done == expected
    assert set(layers) == set(expected)
    assert all(on_grid(layer) for layer in layers.values())
    dense = {n for n, m in encoder.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)}
    assert all(n.startswith("patch_embed") or n.endswith(("conv2", "local_conv")) for n in dense)


def test_error_falls_with_the_bits():
    reference, errors = tiny_encoder(), []
    x = images(1)[0]
    for profile in ("w4a4", "w6a6", "w8a8"):
        encoder = copy.deepcopy(reference)
        quantize_encoder(encoder, encoder.sites(), images(), 2, QuantConfig.of(profile))
        errors.append(float((encoder(x) - reference(x)).norm() / reference(x).norm()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.1


def test_quantization_is_reproducible():
    results = []
    for _ in range(2):
        encoder = tiny_encoder()
        quantize_encoder(encoder, encoder.sites(), images(), 2, QuantConfig.of("w6a6"))
        results.append(encoder(images(1)[0]))
    assert torch.equal(*results)


def test_rounding_twice_changes_nothing():
    torch.manual_seed(0)
    once = round_to_grid(torch.randn(5, 7), 0)
    torch.testing.assert_close(round_to_grid(once, 0), once, rtol=1e-6, atol=0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ConvTranspose2d(3, 2, 2), torch.nn.GELU())
    assert round_weights(module) == 2


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="w8a8, w6a6, w4a8, w4a4"):
        QuantConfig.of("w3a3")
