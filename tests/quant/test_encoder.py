import copy
from dataclasses import replace

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.errors import InputError, ParityError
from dfqsam.quant.build import site_bits
from dfqsam.quant.encoder import quantizable, quantize_encoder, quantized_layers
from dfqsam.quant.layers import QuantizedConv, require_on_grid
from dfqsam.quant.logarithmic import Logarithmic
from dfqsam.quant.observe import observe, searched
from dfqsam.quant.product import QuantizedProduct
from dfqsam.quant.ranges import search_range
from dfqsam.quant.rounding import round_to_grid, round_weights
from dfqsam.sam.sites import Product
from tests.small import tiny_encoder


def images(count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(1, 3, 64, 64, generator=generator) for _ in range(count)]


def with_extremes(x: torch.Tensor) -> torch.Tensor:
    """Rows of ``x`` (… x C) with each channel's extremes behind them, as an observer gives them."""
    flat = x.flatten(0, -2)
    return torch.cat([flat, flat.amin(0, keepdim=True), flat.amax(0, keepdim=True)])


def test_every_linear_and_dense_convolution_is_quantized_and_on_its_grid():
    encoder = tiny_encoder()
    config = QuantConfig.of("w4a8")
    expected = [site.name for site in quantizable(encoder.sites(), config)]
    done = quantize_encoder(encoder, encoder.sites(), images(), 2, config)
    layers = quantized_layers(encoder)
    assert done == expected
    assert set(layers) == set(expected)
    assert all(layer.on_grid() for layer in layers.values())
    dense = {n for n, m in encoder.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)}
    assert all(n.startswith(("patch_embed", "layers.0")) or n.endswith(("conv2", "local_conv")) for n in dense)


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


def test_the_papers_setting_leaves_no_linear_convolution_or_product_in_full_precision():
    encoder, config = tiny_encoder(), QuantConfig.of("W4A4")
    sites = encoder.sites()
    assert quantize_encoder(encoder, sites, images(), 2, config) == [site.name for site in sites]
    assert not any(isinstance(m, torch.nn.Linear | torch.nn.Conv2d | Product) for m in encoder.modules())
    for site in sites:
        module = encoder.get_submodule(site.name)
        if site.kind == "depthwise":
            assert isinstance(module, QuantizedConv)
            assert module.divisor is not None
        if isinstance(module, QuantizedProduct):
            assert isinstance(module.left, Logarithmic) == site.name.endswith("matmul_av")
            assert module.left.bits == module.right.bits == 4
        else:
            edge = site in (sites[0], sites[-1])
            assert (module.weight_bits, module.grid.bits) == ((8, 8) if edge else (4, 4))
    require_on_grid(encoder)


def test_bits_of_a_site():
    sites = tiny_encoder().sites()
    named = {site.name: site for site in sites}
    gelu, edge, plain = (named[n] for n in ("layers.1.blocks.0.mlp.fc2", "neck.2", "layers.1.blocks.0.mlp.fc1"))
    assert [site_bits(s, sites, QuantConfig.of("w4a4")) for s in (gelu, edge, plain)] == [(4, 8), (4, 4), (4, 4)]
    assert [site_bits(s, sites, QuantConfig.of("W4A4")) for s in (gelu, edge, plain)] == [(4, 4), (8, 8), (4, 4)]


@pytest.mark.parametrize("profile", ["w4a4", "W4A4"])
def test_observations_can_be_shared_and_are_left_alone(profile):
    reference, config = tiny_encoder(), QuantConfig.of(profile)
    names = [site.name for site in quantizable(reference.sites(), config)]
    samples = observe(reference, names, images(), 2, config.rows)
    kept = {name: value.clone() for name, value in samples.items()}
    first, second = copy.deepcopy(reference), copy.deepcopy(reference)
    quantize_encoder(first, first.sites(), images(), 2, config)
    quantize_encoder(second, second.sites(), [], 2, config, samples=samples)
    assert torch.equal(first(images(1)[0]), second(images(1)[0]))
    assert samples.keys() == kept.keys()
    assert all(torch.equal(samples[name], kept[name]) for name in kept)


def test_extremes_are_those_of_everything_that_enters_and_of_images_beyond():
    encoder = tiny_encoder()
    sites = [site for site in encoder.sites() if site.kind in ("linear", "depthwise")]
    seen: dict[str, list[torch.Tensor]] = {site.name: [] for site in sites}
    handles = [
        encoder.get_submodule(name).register_forward_pre_hook(lambda _module, x, all_=all_: all_.append(x[0]))
        for name, all_ in seen.items()
    ]
    inside, beyond = images(2), [3 * image for image in images(3)[2:]]
    for image in (*inside, *beyond):
        encoder(image)
    for handle in handles:
        handle.remove()
    found = observe(encoder, list(seen), inside, 2, 1000, beyond)
    for name, inputs in seen.items():
        flat = torch.cat([x.flatten(0, -2) for x in inputs])
        assert torch.equal(found[name][-2:], torch.stack([flat.amin(0), flat.amax(0)]))
        kept = torch.cat([x.flatten(0, -2) for x in inputs[:2]])
        assert all((kept == row).all(1).any() for row in found[name][:-2][:5])
        assert len(found[name]) < len(kept)


def test_coarse_grids_are_searched_without_the_extremes():
    values = torch.tensor([[0.0, 1.0], [2.0, 3.0], [-9.0, 0.0], [2.0, 9.0]])
    assert torch.equal(searched(values, 8), values)
    assert torch.equal(searched(values, 6), values)
    assert torch.equal(searched(values, 4), values[:2])


@pytest.mark.parametrize("target", [None, "center", "median"])
def test_each_site_sees_quantized_inputs_in_one_pass(target, monkeypatch):
    """The grids found in sequence are those found behind the encoder as it is quantized so far."""
    # Half precision comes last and changes what enters a little.
    monkeypatch.setattr("dfqsam.quant.encoder.round_for_storage", lambda *_: 0)
    # The coarse grid behind a softmax: with finer ones, norms that are changed first or last (1e-7) differ in a code.
    config = replace(QuantConfig.of("W4A4"), upstream="quantized", reparameterize=target, rows=1 << 30, softmax="sqrt2")
    encoder, seen = tiny_encoder(), []
    handle = encoder.register_forward_pre_hook(lambda _module, _inputs: seen.append(1))
    batch, steps = torch.cat(images(3)), []
    entering: list[torch.Tensor] = []  # the norm before the last site, which is changed only behind it
    kept = encoder.neck[1].register_forward_pre_hook(lambda _module, values: entering.append(values[0]))
    encoder(batch)
    seen.clear()
    assert quantize_encoder(encoder, encoder.sites(), images(3), 3, config, lambda: steps.append(1)) == [
        site.name for site in encoder.sites()
    ]
    handle.remove()
    assert len(seen) == 1
    assert len(steps) == len(encoder.sites())

    last = encoder.neck[2]
    encoder(batch)
    kept.remove()
    full, during, after = entering
    again = search_range(with_extremes(encoder.neck[1](during)), 8)
    assert again.scale == pytest.approx(last.grid.scale, rel=1e-6)
    # Norms that are changed first or last differ by 1e-7, which now and then turns a code of four bits over.
    assert (during - after).norm() < (0.3 * (during - full).norm() if target else 1e-5 * during.norm())
    if target is None:
        assert again.zero_point == last.grid.zero_point
    else:
        # Reparameterization makes this range reach as far below zero as above, so that -low / scale is 127.5 and the
        # last digit decides.
        assert {again.zero_point, last.grid.zero_point} <= {127, 128}


def test_quantized_inputs_need_images():
    encoder = tiny_encoder()
    config = replace(QuantConfig.of("w8a8"), upstream="quantized")
    with pytest.raises(InputError, match="at least one batch"):
        quantize_encoder(encoder, encoder.sites(), [], 0, config, samples={})


def test_the_gate_to_the_export_names_what_is_wrong():
    encoder = tiny_encoder()
    quantize_encoder(encoder, encoder.sites(), images(), 2, QuantConfig.of("w8a8"))
    require_on_grid(encoder)
    layer = encoder.get_submodule("neck.0")
    layer.codes[:2, 0] = 127
    with pytest.raises(ParityError, match=r"neck\.0"):
        require_on_grid(encoder)
    layer.codes[:2, 0] = 64
    require_on_grid(encoder)
    layer.codes[0, 0] = -128
    with pytest.raises(ParityError, match=r"neck\.0"):
        require_on_grid(encoder)
    layer.codes[0, 0] = 0
    encoder.layers[1].blocks[0].mlp.train()
    with pytest.raises(ParityError, match="training mode"):
        require_on_grid(encoder)


def test_eight_bit_weights_are_the_same_whether_others_would_be_compensated_or_not():
    made = []
    for preset in ("plain", "fast"):
        encoder = tiny_encoder()
        quantize_encoder(encoder, encoder.sites(), images(), 2, QuantConfig.of("w8a8", preset))
        made.append(encoder.state_dict())
    assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())


def test_layers_with_bits_of_their_own_get_them():
    encoder = tiny_encoder()
    config = replace(QuantConfig.of("w4a8"), layer_bits=(("neck.0", 8), ("layers.1.blocks.0.mlp.fc1", 6)))
    quantize_encoder(encoder, encoder.sites(), [torch.rand(1, 3, 64, 64)], 1, config)
    bits = {name: layer.weight_bits for name, layer in quantized_layers(encoder).items()}
    assert (bits.pop("neck.0"), bits.pop("layers.1.blocks.0.mlp.fc1")) == (8, 6)
    assert set(bits.values()) == {4}
