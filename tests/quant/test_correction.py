import copy

import pytest
import torch
from torch import nn

from dfqsam.config import QuantConfig
from dfqsam.errors import InputError
from dfqsam.quant.correction import channel_means, correct_biases
from dfqsam.quant.encoder import quantize_encoder, quantized_layers
from dfqsam.quant.grid import Affine
from dfqsam.quant.layers import QuantizedLinear
from tests.small import tiny_encoder

FIT = 3


@pytest.fixture(scope="module")
def corrected():
    reference = tiny_encoder()
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    encoder = copy.deepcopy(reference)
    quantize_encoder(encoder, encoder.sites(), [images], 1, QuantConfig.of("w4a4"))
    plain = copy.deepcopy(encoder)
    return reference, plain, encoder, images, correct_biases(reference, encoder, images, FIT)


def outputs(encoder: nn.Module, names: list[str], images: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    hooks = []
    for name in names:

        def hook(_module, _inputs, output, name=name):
            found[name] = output

        hooks.append(encoder.get_submodule(name).register_forward_hook(hook))
    encoder(images)
    for handle in hooks:
        handle.remove()
    return found


def test_channel_means_agree_on_the_images_to_fit_wherever_a_correction_was_kept(corrected):
    reference, plain, encoder, images, report = corrected
    assert set(report) == set(quantized_layers(encoder))
    kept = [name for name, entry in report.items() if entry.kept]
    assert kept
    true, ours, before = (outputs(model, kept, images) for model in (reference, encoder, plain))
    for name in kept:
        wanted = channel_means(true[name][:FIT])
        gap, was = (float((channel_means(found[name][:FIT]) - wanted).norm()) for found in (ours, before))
        # Added to the bias in place of the output, a correction may turn a value over to the next step of a grid.
        assert gap < 0.05 * was


def test_only_what_helps_the_held_out_images_is_kept_and_the_rest_is_as_before(corrected):
    reference, plain, encoder, images, report = corrected
    before = quantized_layers(plain)
    for name, layer in quantized_layers(encoder).items():
        entry = report[name]
        assert entry.kept == (entry.after < entry.before)
        if not entry.kept:
            old = before[name].bias
            assert layer.bias is old is None or torch.equal(layer.bias, old)
    true = reference(images[FIT:])
    assert (encoder(images[FIT:]) - true).norm() < (plain(images[FIT:]) - true).norm()


class One(nn.Module):
    """A single layer as an encoder: B x 3 x 1 x 1 to B x 1 x 2."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1)[:, None])


def quantized(linear: nn.Linear) -> One:
    # Ones are on the grid; activations in steps of 1.
    return One(QuantizedLinear.of(linear, torch.full((2,), 1 / 64), Affine(1.0, 0, 8), 8)).eval()


@pytest.mark.parametrize(("held_out", "kept"), [(0.25, True), (0.6, False)])
def test_the_guard_by_hand(held_out, kept):
    linear = nn.Linear(3, 2, bias=False).requires_grad_(False)
    linear.weight.fill_(1.0)
    reference, encoder = One(linear), quantized(linear)
    # Inputs of 0.25 are rounded to 0, and the sum of three is 0.75 too small. 0.6 becomes 1: 1.2 too large.
    images = torch.tensor([0.25, 0.25, held_out])[:, None, None, None].expand(3, 3, 1, 1)
    entry = correct_biases(reference, encoder, images, 2)["layer"]
    assert entry.kept is kept
    assert entry.before == pytest.approx(0.75**2 if kept else 1.2**2)
    assert entry.after == pytest.approx(0.0 if kept else 1.95**2, rel=1e-6, abs=1e-9)
    if kept:
        assert encoder.layer.bias.tolist() == [[[0.75, 0.75]]]
    else:
        assert encoder.layer.bias is None


def test_a_folded_bias_equals_adding_when_it_runs():
    torch.manual_seed(0)
    linear = nn.Linear(3, 2).requires_grad_(False)
    encoder, x = quantized(linear), torch.rand(4, 3, 1, 1) * 9
    before, shift = encoder(x), torch.tensor([0.5, -2.0])
    encoder.layer.add_bias(shift)
    torch.testing.assert_close(encoder(x), before + shift)


def test_images_of_both_kinds_are_needed():
    linear = nn.Linear(3, 2).requires_grad_(False)
    for fit in (0, 2):
        with pytest.raises(InputError, match="at least one of each"):
            correct_biases(One(linear), quantized(linear), torch.rand(2, 3, 1, 1), fit)
