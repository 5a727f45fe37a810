import copy

import torch

from dfqsam.config import QuantConfig
from dfqsam.quant.grid import affine
from dfqsam.quant.passes import quantize_encoder
from dfqsam.quant.polish import framed, polish, softened, varied
from dfqsam.quant.refine import refine_ranges, stem_sites
from tests.small import tiny_encoder


def quantized(images: torch.Tensor) -> tuple[torch.nn.Module, torch.nn.Module]:
    reference = tiny_encoder()
    encoder = copy.deepcopy(reference)
    quantize_encoder(encoder, encoder.sites(), [images], 1, QuantConfig.of("W8A8"))
    return reference, encoder


def error(reference: torch.nn.Module, encoder: torch.nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        true = reference(images)
        return float((encoder(images) - true).norm() / true.norm())


def test_a_range_that_is_far_too_wide_is_drawn_in_and_the_report_tells_the_truth():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    reference, encoder = quantized(images)
    (site,) = stem_sites(encoder.sites())
    layer = encoder.get_submodule(site.name)
    layer.grid = affine(layer.grid.low, 40 * layer.grid.high, 8)
    before = error(reference, encoder, images)
    report = refine_ranges(reference, encoder, [site], images)[site.name]
    assert report.after < report.before
    assert layer.grid == report.grid
    torch.testing.assert_close(report.before, before, rtol=1e-3, atol=0)
    torch.testing.assert_close(report.after, error(reference, encoder, images), rtol=1e-3, atol=0)


def test_a_stem_in_full_precision_is_left_alone():
    images = torch.rand(2, 3, 64, 64)
    reference = tiny_encoder()
    assert refine_ranges(reference, copy.deepcopy(reference), stem_sites(reference.sites()), images) == {}


def test_polishing_does_what_the_settings_say():
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    batches = list(images[:, None])
    reference, encoder = quantized(images)
    plain = copy.deepcopy(encoder)
    off = QuantConfig(refine=False, bias_correction=False)
    assert polish(reference, encoder, encoder.sites(), batches, off, True) == 0
    assert torch.equal(encoder(images), plain(images))
    assert polish(reference, encoder, encoder.sites(), batches, QuantConfig(), True) > 0
    assert error(reference, encoder, images) < error(reference, plain, images)


def test_a_frame_is_zero_below_and_the_picture_above():
    x = torch.rand(1, 3, 8, 8) + 1
    assert not framed(x)[:, :, 6:].any()
    assert torch.equal(framed(x)[:, :, :6], x[:, :, :6])
    assert float(x.min()) >= 1


def test_softening_spreads_a_point_and_leaves_an_even_area_alone():
    point = torch.zeros(1, 1, 9, 9)
    point[..., 4, 4] = 256
    assert softened(point)[0, 0, 4, 2:7].tolist() == [6, 24, 36, 24, 6]
    assert softened(point)[0, 0, 2:7, 2].tolist() == [1, 4, 6, 4, 1]
    assert torch.equal(softened(torch.full((1, 3, 6, 6), 0.5)), torch.full((1, 3, 6, 6), 0.5))


def test_images_are_varied_in_turn():
    batches = list(torch.rand(6, 1, 3, 16, 16, generator=torch.Generator().manual_seed(5)))
    grey = batches[0].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    found = varied(batches)
    assert torch.equal(found[0], grey)
    assert torch.equal(found[1], framed(batches[1]))
    assert torch.equal(found[2], softened(batches[2]))
    assert torch.equal(found[3][:, 0], found[3][:, 2])
    assert not found[3][:, :, 12:].any()
    assert torch.equal(found[4], batches[4])
    assert torch.equal(found[5], framed(batches[5]))
