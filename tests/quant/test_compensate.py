import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from dfqsam.config import QuantConfig
from dfqsam.errors import InputError
from dfqsam.quant import heldout
from dfqsam.quant.compensate import compensate
from dfqsam.quant.encoder import quantizable, quantize_encoder, quantized_layers
from dfqsam.quant.grid import affine, weight_scales
from dfqsam.quant.heldout import few, many
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
    report = compensate(reference, encoder, encoder.sites(), encoder.units(), list(images[:, None]), 6)
    assert error(reference, encoder, others) < 0.9 * before
    require_on_grid(encoder)
    layers = quantized_layers(encoder)
    behind = [site.name for site in encoder.sites() if site.name in layers]
    first = 1 if profile == "W4A4" else 0  # what reads the image has eight bits there
    assert list(report) == behind[first:]
    assert [layers[name].weight_bits == 8 for name in (behind[0], behind[-1])] == [profile == "W4A4"] * 2
    assert all(entry.after <= entry.before for entry in report.values())
    assert any(entry.damping is not None for entry in report.values())


@pytest.mark.parametrize("make", [tiny_encoder, tiny_vit])
def test_an_encoder_taken_apart_gets_the_weights_that_it_gets_as_a_whole(make):
    reference, images = make(), list((shapes(4, 64, 0) - 0.5)[:, None])
    reports = []
    for units in (reference.units(), ()):
        encoder = copy.deepcopy(reference)
        quantize_encoder(encoder, encoder.sites(), images, len(images), QuantConfig.of("W6A6"))
        reports.append(compensate(reference, encoder, encoder.sites(), units, images, 3))
    assert reports[0] == reports[1]


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
        compensate(reference, encoder, sites, (), list(images), 6)
        errors[stream] = error(reference, encoder, torch.rand(1, 500, 6))
    # What two bits get wrong follows from what they give, so that the second layer can undo it.
    assert errors["branch"] < 0.5 * errors[None]


def test_eight_bits_are_left_alone_until_a_layer_has_fewer():
    reference = tiny_encoder()
    images = list((shapes(4, 64, 0) - 0.5)[:, None])
    third = [site.name for site in quantizable(reference.sites(), QuantConfig())][2]
    counts = []
    for bits in ((), ((third, 4),)):
        encoder, config = copy.deepcopy(reference), replace(QuantConfig.of("w8a8"), layer_bits=bits)
        quantize_encoder(encoder, encoder.sites(), images, len(images), config)
        report = compensate(reference, encoder, encoder.sites(), encoder.units(), images, 3)
        counts.append((len(quantized_layers(encoder)), list(report)))
        require_on_grid(encoder)
    assert counts[0][1] == []
    assert counts[1][1][0] == third
    assert len(counts[1][1]) == counts[1][0] - 2


def test_weights_that_were_refitted_are_what_codes_stand_for():
    reference, images = tiny_encoder(), list((shapes(8, 64, 0) - 0.5)[:, None])
    encoder = copy.deepcopy(reference)
    quantize_encoder(encoder, encoder.sites(), images, len(images), QuantConfig.of("w4a4"))
    before = {name: layer.origin.clone() for name, layer in quantized_layers(encoder).items()}
    report = compensate(reference, encoder, encoder.sites(), encoder.units(), images, 6)
    refitted = {name for name, entry in report.items() if entry.penalty is not None and entry.damping is not None}
    assert refitted
    for name, layer in quantized_layers(encoder).items():
        assert torch.equal(layer.origin, before[name]) == (name not in refitted)


def test_it_asks_for_images_to_fit_on_and_to_choose_by():
    encoder = tiny_encoder()
    for fit in (0, 2):
        with pytest.raises(InputError, match="at least one of each"):
            compensate(encoder, encoder, [], (), list(shapes(2, 64, 0)[:, None]), fit)


def test_a_quarter_of_a_few_images_is_held_out():
    images = [torch.zeros(1, 3, 8, 8)] * 40
    chosen, fit = few(images)
    assert (len(chosen), fit) == (16, 12)
    assert few(images[:3])[1] == 2
    assert few(images[:1]) == (images[:1], 0)
    chosen, fit = few([torch.zeros(1, 3, 1024, 1).expand(1, 3, 1024, 1024)] * 40)
    assert (len(chosen), fit) == (2, 1)


def test_many_images_are_those_there_are_and_more_of_their_pictures(monkeypatch):
    asked = []

    class Draws:
        def __init__(self, pictures, normalise):
            self.pictures, self.normalise = pictures, normalise

        def __call__(self, count, _generator):
            asked.append(([int(x[0, 0, 0]) for x in self.pictures], count))
            return self.normalise(self.pictures[0][None]).expand(count, -1, -1, -1)

    monkeypatch.setattr(heldout, "Endless", Draws)
    pictures = [torch.full((3, 8, 8), float(i)) for i in range(8)]
    batches = [picture[None] + 100 for picture in pictures]
    images, fit = many(batches, pictures, lambda x: x + 1000)
    assert (len(images), fit) == (16, 12)
    assert asked == [([0, 1, 2, 3, 4, 5], 6), ([6, 7], 2)]
    values = [int(image[0, 0, 0, 0]) for image in images]
    assert values == [100, 101, 102, 103, 104, 105, *[1000] * 6, 106, 107, 1006, 1006]
    assert len(many(batches * 5, pictures * 5, lambda x: x)[0]) == 64


def test_without_pictures_many_images_are_those_there_are():
    images = [torch.zeros(1, 3, 8, 8)] * 9
    chosen, fit = many(images)
    assert (len(chosen), fit) == (9, 7)
    assert many(images[:1], [images[0][0]], lambda x: x) == (images[:1], 0)
    chosen, fit = many([torch.zeros(1, 3, 1024, 1).expand(1, 3, 1024, 1024)] * 40)
    assert (len(chosen), fit) == (4, 3)
