import copy

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.quant.channels import search_channels
from dfqsam.quant.depthwise import depthwise_layers, refine_depthwise, rescale
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.quant.grid import fake_quantize
from dfqsam.quant.layers import QuantizedConv, require_on_grid
from dfqsam.sam.sites import ChannelsLastConv
from dfqsam.synth.shapes import shapes
from tests.small import tiny_encoder


class Gradient(torch.nn.Module):
    """Differences of horizontal neighbours in each of two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ChannelsLastConv(2, 2, 3, padding=1, groups=2, bias=False)
        self.conv.weight.data = torch.tensor([[0.0, 0, 0], [-1, 1, 0], [0, 0, 0]]).expand(2, 1, 3, 3).clone()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def pictures(seed: int) -> torch.Tensor:
    """1 x 8 x 400 x 2: small values with a slow rise to a large plateau at the right."""
    generator = torch.Generator().manual_seed(seed)
    rise = torch.cat([torch.zeros(300), torch.linspace(0, 3, 60), torch.full((40,), 3.0)])
    return 0.1 * torch.rand(1, 8, 400, 2, generator=generator) + rise[:, None]


@torch.no_grad()
def test_a_filter_of_differences_gets_a_finer_step_and_errs_less_on_others():
    reference = Gradient()
    values = torch.cat([pictures(seed) for seed in range(4)]).flatten(0, 2)
    change, grid = search_channels(values, 4, zero=True)
    encoder = Gradient()
    encoder.conv = QuantizedConv.of(reference.conv, grid, 8, change)
    others = pictures(9)

    def error() -> float:
        return float((encoder(others) - reference(others)).square().mean())

    before, was = error(), encoder.conv.divisor.clone()
    report = refine_depthwise(reference, encoder, [pictures(seed) for seed in range(6)], 4)
    assert report == {"conv": 2}
    assert bool((encoder.conv.divisor < was).all())
    assert error() < 0.8 * before


@torch.no_grad()
def test_other_steps_with_the_same_codes_are_other_scales_and_no_other_filter():
    reference, x = Gradient(), pictures(0) - 0.5
    change, grid = search_channels(x.flatten(0, 2), 8, zero=True)
    layer = QuantizedConv.of(reference.conv, grid, 8, change)
    codes = layer.codes.clone()
    rescale(layer, torch.tensor([2.0, 0.9]))
    assert torch.equal(layer.codes, codes)
    torch.testing.assert_close(layer.divisor, change.ratio * torch.tensor([2.0, 0.9]))
    torch.testing.assert_close(layer.weights() / layer.divisor[:, None, None], reference.conv.weight.reshape(2, 1, 9))
    torch.testing.assert_close(layer.origin / layer.divisor[:, None, None], reference.conv.weight.reshape(2, 1, 9))
    zero = fake_quantize(layer.rescaled(torch.zeros(2)), grid) * layer.divisor + layer.center
    torch.testing.assert_close(zero, torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(layer(x), reference(x), rtol=0, atol=0.2)  # the second one cuts a tenth off


@pytest.mark.parametrize("profile", ["W4A4", "w4a4"])
def test_encoders_stay_on_their_grids_and_those_with_float_filters_as_they_are(profile):
    reference, images = tiny_encoder(), list(shapes(4, 64, 0)[:, None] - 0.5)
    encoder = copy.deepcopy(reference)
    quantize_encoder(encoder, encoder.sites(), images, len(images), QuantConfig.of(profile))
    calls = []
    report = refine_depthwise(reference, encoder, images, 3, lambda: calls.append(1))
    assert set(report) == set(depthwise_layers(encoder))
    assert len(calls) == len(report) == (7 if profile == "W4A4" else 0)
    require_on_grid(encoder)
