import pytest
import torch
from torch import nn

from dfqsam.quant.grid import Affine
from dfqsam.quant.layers import QuantizedLinear
from dfqsam.quant.rounding import round_for_storage, round_to_half


def encoder() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(64, 300)
    quantized = QuantizedLinear.of(layer, torch.full((300,), 0.01), Affine(0.1, 3, 8), 8)
    return nn.ModuleDict({"large": nn.Linear(64, 64), "small": nn.Linear(8, 8), "quantized": quantized})


def test_large_floats_are_rounded_to_half_precision_and_nothing_else_is():
    module = encoder()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert round_to_half(module) == 2
    after = module.state_dict()
    assert torch.equal(after["large.weight"], before["large.weight"].half().float())
    assert not torch.equal(after["large.weight"], before["large.weight"])
    assert torch.equal(after["quantized.bias"], before["quantized.bias"].half().float())
    rounded = ("large.weight", "quantized.bias")
    assert all(torch.equal(after[name], value) for name, value in before.items() if name not in rounded)
    torch.testing.assert_close(after["large.weight"], before["large.weight"], rtol=5e-4, atol=1e-7)
    assert round_to_half(module) == 2  # again, which changes nothing
    assert torch.equal(module.state_dict()["large.weight"], after["large.weight"])


@pytest.mark.parametrize("value", [1e6, float("inf")])
def test_what_half_precision_cannot_hold_stays(value):
    module = encoder()
    with torch.no_grad():
        module["large"].weight[3, 4] = value
    before = module["large"].weight.clone()
    assert round_to_half(module) == 1  # the bias of the other
    assert torch.equal(module["large"].weight, before)


def test_what_is_very_large_and_not_quantized_has_eight_bits_and_keeps_them():
    torch.manual_seed(0)
    parts = {
        "conv": nn.Conv2d(128, 64, 3),
        "turned": nn.ConvTranspose2d(64, 128, 3),
        "kept": nn.Linear(256, 256),
        "small": nn.Linear(64, 64),
    }
    module = nn.ModuleDict(parts).requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert round_for_storage(module, keep=("kept",)) == 2
    after = {name: value.clone() for name, value in module.state_dict().items()}
    for name, axis in (("conv", 0), ("turned", 1)):
        weight = after[f"{name}.weight"].movedim(axis, 0).flatten(1)
        steps = weight / weight.abs().amax(1, keepdim=True) * 127
        assert float((steps - steps.round()).abs().max()) < 1e-3
        assert not torch.equal(weight, weight.half().float())
    for name in ("kept", "small"):
        assert torch.equal(after[f"{name}.weight"], before[f"{name}.weight"].half().float())
    assert round_to_half(module) >= 2  # passes do that again
    assert all(torch.equal(value, after[name]) for name, value in module.state_dict().items())
