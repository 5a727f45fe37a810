import copy

import torch

from dfqsam.config import QuantConfig
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.quant.grid import affine
from dfqsam.quant.passes import mend
from dfqsam.quant.refine import refine_ranges, stem_sites
from dfqsam.quant.work import Work
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


def test_passes_that_are_asked_for_mend_and_no_others_do():
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    batches = list(images[:, None])
    reference, encoder = quantized(images)
    plain = copy.deepcopy(encoder)
    work = Work(reference, encoder, encoder.sites(), encoder.units(), encoder.stages(), batches, any_resolution=True)
    assert mend(work, ()) == {}
    assert torch.equal(encoder(images), plain(images))
    done = mend(work, QuantConfig().passes)
    assert tuple(done) == QuantConfig().passes
    assert done["biases"] > 0
    assert error(reference, encoder, images) < error(reference, plain, images)
