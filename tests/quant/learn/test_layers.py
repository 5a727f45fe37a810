import copy

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.quant.layers import QuantizedLayer, require_on_grid
from dfqsam.quant.learn.layers import LearnedLayer, LearnedProduct, learning
from dfqsam.synth.shapes import shapes
from tests.small import tiny_encoder


@pytest.fixture(scope="module", params=["w4a4", "w8a8", "W4A4"])
def quantized(request):
    encoder, images = tiny_encoder(), shapes(2, 64, 0) - 0.5
    quantize_encoder(encoder, encoder.sites(), [images], 1, QuantConfig.of(request.param))
    return encoder, images


@torch.no_grad()
def test_what_nobody_taught_computes_what_it_did_and_comes_back_unchanged(quantized):
    plain, images = quantized
    encoder = copy.deepcopy(plain)
    true, before = plain(images), {name: value.clone() for name, value in plain.state_dict().items()}
    with learning(encoder, drop=0.5) as learned:
        assert learned
        torch.testing.assert_close(encoder(images), true, rtol=0.05, atol=0.05 * float(true.std()))
    assert not any(isinstance(module, LearnedLayer | LearnedProduct) for module in encoder.modules())
    after = encoder.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    require_on_grid(encoder)


def test_layers_alone_give_what_their_quantized_ones_give(quantized):
    encoder, _ = quantized
    for layer in encoder.modules():
        if isinstance(layer, QuantizedLayer):
            groups = getattr(layer, "groups", 1)
            inputs = layer.codes.shape[1] * groups if layer.codes.dim() == 4 else layer.codes.shape[0]
            x = torch.randn(1, 6, 6, inputs, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                true, found = layer(x), LearnedLayer(layer).eval()(x)
            torch.testing.assert_close(found, true, rtol=1e-4, atol=1e-4 * float(true.abs().max()))


def test_what_was_learned_is_written_down_and_stays_on_the_grid(quantized):
    encoder = copy.deepcopy(quantized[0])
    with torch.no_grad(), learning(encoder) as learned:
        for module in learned.values():
            module.widening += 0.25
            if isinstance(module, LearnedLayer):
                module.latent += 3.0
    require_on_grid(encoder)
    before = dict(quantized[0].named_modules())
    for name, layer in encoder.named_modules():
        if isinstance(layer, QuantizedLayer):
            was = before[name]
            assert isinstance(was, QuantizedLayer)
            assert layer.grid.scale == pytest.approx(was.grid.scale * 2.718281828**0.25)
            assert layer.grid.scale == float(torch.tensor(layer.grid.scale))
            assert layer.grid.zero_point == was.grid.zero_point
            assert not torch.equal(layer.codes, was.codes)


def test_fixed_codes_are_integers_and_learn_no_more(quantized):
    encoder = copy.deepcopy(quantized[0])
    name, layer = next((n, m) for n, m in encoder.named_modules() if isinstance(m, QuantizedLayer))
    learned = LearnedLayer(layer)
    learned.soft = True
    with torch.no_grad():
        learned.latent += 0.3
    learned.fix()
    assert not learned.soft
    assert not learned.latent.requires_grad
    assert torch.equal(learned.latent, layer.rows().float()), name


def test_a_failure_leaves_everything_as_it_was(quantized):
    encoder = copy.deepcopy(quantized[0])
    before = {name: value.clone() for name, value in encoder.state_dict().items()}

    def fail() -> None:
        with torch.no_grad(), learning(encoder) as learned:
            for module in learned.values():
                module.widening += 1
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not any(isinstance(module, LearnedLayer) for module in encoder.modules())
