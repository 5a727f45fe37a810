import pytest
import torch
from torch import nn

from dfqsam.quant.grid import affine, weight_scales
from dfqsam.quant.layers import QuantizedConv, QuantizedLayer, QuantizedLinear
from dfqsam.quant.patches import rounded_inputs
from dfqsam.quant.rescaling import Rescaling

GRID = affine(-2.0, 2.0, 4)


def linear() -> tuple[QuantizedLayer, torch.Tensor]:
    plain = nn.Linear(6, 5)
    return QuantizedLinear.of(plain, weight_scales(plain.weight, 4, pairs=True), GRID, 4), torch.randn(1, 7, 9, 6)


def conv(stride: int, groups: int, divided: bool) -> tuple[QuantizedLayer, torch.Tensor]:
    plain = nn.Conv2d(6, 12, 3, stride=stride, padding=1, groups=groups)
    change = Rescaling(torch.rand(6), torch.rand(6) + 0.5) if divided else None
    return QuantizedConv.of(plain, GRID, 4, change), torch.randn(1, 7, 9, 6)


@pytest.mark.parametrize("kind", ["linear", "plain", "strided", "moved", "grouped", "depthwise"])
@torch.no_grad()
def test_rows_times_weights_are_the_outputs_at_their_places(kind):
    torch.manual_seed(0)
    made = {
        "linear": linear,
        "plain": lambda: conv(1, 1, False),
        "strided": lambda: conv(2, 1, False),
        "moved": lambda: conv(2, 1, True),
        "grouped": lambda: conv(1, 3, False),
        "depthwise": lambda: conv(2, 6, True),
    }
    layer, x = made[kind]()
    output = layer(x)[0].flatten(0, -2)
    places = torch.randperm(len(output))[:10]
    rows = rounded_inputs(layer, x, places)
    assert rows.shape == (len(layer.origin), 10, layer.origin.shape[2])
    assert layer.bias is not None
    found = (rows @ layer.weights().mT).transpose(0, 1).flatten(1) + layer.bias.flatten()
    assert torch.allclose(found, output[places], atol=1e-5)


@torch.no_grad()
def test_weights_that_are_set_are_those_that_are_computed_with():
    torch.manual_seed(0)
    for layer, x in (linear(), conv(1, 3, False), conv(2, 6, True)):
        codes = torch.randint(-7, 8, layer.origin.shape).float()
        scale = torch.rand(layer.origin.shape[:2]) + 0.1
        layer.set_weights(codes, scale)
        assert layer.codes.dtype == torch.int8
        assert torch.allclose(layer.weights(), codes * scale[..., None])
        places = torch.arange(4)
        assert layer.bias is not None
        found = (rounded_inputs(layer, x, places) @ layer.weights().mT).transpose(0, 1).flatten(
            1
        ) + layer.bias.flatten()
        assert torch.allclose(found, layer(x)[0].flatten(0, -2)[places], atol=1e-5)
