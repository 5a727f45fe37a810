import copy

import pytest
import torch
from torch import nn

from dfqsam.config import QuantConfig
from dfqsam.errors import InputError
from dfqsam.quant.compensate import compensate
from dfqsam.quant.encoder import quantize_encoder, quantized_layers
from dfqsam.quant.grid import affine, weight_scales
from dfqsam.quant.heldout import few
from dfqsam.quant.layers import QuantizedLinear, require_on_grid
from dfqsam.sam.sites import Site
from dfqsam.sam.vit import ViT, ViTConfig
from dfqsam.synth.shapes import shapes
from tests.small import tiny_encoder


def tiny_vit() -> ViT:
    torch.manual_seed(0)
    config = ViTConfig(image_size=64, patch=8, width=32, depth=2, heads=2, window=5, global_blocks=(1,))
    return ViT(config).eval().requires_grad_(False)


def error(reference: nn.Module, encoder: nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        true = reference(images)
        return float((encoder(images) - true).norm() / true.norm())


@pytest.mark.parametrize(
    ("make", "profile"), [(tiny_encoder, "w4a8"), (tiny_encoder, "w6a6"), (tiny_encoder, "w4-only"), (tiny_vit, "W4A4")]
)
def test_embeddings_of_other_pictures_come_closer_and_weights_stay_on_their_grids(make, profile):
    reference = make()
    images = shapes(8, 64, 0) - 0.5
    encoder = copy.deepcopy(reference)
    quantize_encoder(encoder, encoder.sites(), [images], 1, QuantConfig.of(profile))
    others = shapes(4, 64, 100) - 0.5
    before = error(reference, encoder, others)
    report = compensate(reference, encoder, encoder.sites(), list(images[:, None]), 6)
    assert error(reference, encoder, others) < 0.9 * before
    require_on_grid(encoder)
    assert set(report) == {name for name, layer in quantized_layers(encoder).items() if layer.weight_bits < 8}
    assert all(entry.after <= entry.before for entry in report.values())
    assert any(entry.damping is not None for entry in report.values())


class Stream(nn.Module):
    """B x N x 6 to h + second(h) with h = first(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.second = nn.Linear(6, 6), nn.Identity(), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return x + self.second(self.branch(x))


def test_a_layer_that_writes_to_a_stream_makes_up_for_what_is_wrong_in_it():
    torch.manual_seed(0)
    reference, images = Stream().requires_grad_(False), torch.rand(8, 1, 500, 6)
    errors = {}
    for stream in ("branch", None):
        encoder = copy.deepcopy(reference)
        for name, bits in (("first", 2), ("second", 7)):
            linear, grid = getattr(encoder, name), affine(-1.5, 1.5, 8)
            made = QuantizedLinear.of(linear, weight_scales(linear.weight, bits, pairs=True), grid, bits)
            setattr(encoder, name, made)
        sites = [Site("first", "linear", "residual"), Site("second", "linear", "residual", stream=stream)]
        compensate(reference, encoder, sites, list(images), 6)
        errors[stream] = error(reference, encoder, torch.rand(1, 500, 6))
    # What two bits get wrong follows from what they give, so that the second layer can undo it.
    assert errors["branch"] < 0.5 * errors[None]


def test_it_asks_for_images_to_fit_on_and_to_choose_by():
    encoder = tiny_encoder()
    for fit in (0, 2):
        with pytest.raises(InputError, match="at least one of each"):
            compensate(encoder, encoder, [], list(shapes(2, 64, 0)[:, None]), fit)


def test_a_quarter_of_a_few_images_is_held_out():
    images = [torch.zeros(1, 3, 8, 8)] * 40
    chosen, fit = few(images)
    assert (len(chosen), fit) == (16, 12)
    assert few(images[:3])[1] == 2
    assert few(images[:1]) == (images[:1], 0)
    chosen, fit = few([torch.zeros(1, 3, 1024, 1).expand(1, 3, 1024, 1024)] * 40)
    assert (len(chosen), fit) == (2, 1)
