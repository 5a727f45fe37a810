import copy

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.quant.layers import require_on_grid
from dfqsam.quant.learn.distill import Lesson, distill
from dfqsam.synth.shapes import shapes
from tests.small_sam import tiny_sam


@pytest.fixture(scope="module")
def student():
    sam = tiny_sam()
    images = [sam.normalise(picture) for picture in shapes(6, 64, 0)[:, None]]
    encoder = copy.deepcopy(sam.encoder)
    quantize_encoder(encoder, sam.sites(), images, len(images), QuantConfig.of("w4a4"))
    return sam, images, encoder


def test_the_student_learns_and_its_weights_stay_on_their_grids(student):
    sam, images, plain = student
    encoder, calls = copy.deepcopy(plain), []
    lesson = Lesson(steps=9, checks=3)
    report = distill(
        sam.encoder, encoder, sam.stages(), images, 4, sam.prompter, lesson, advance=lambda: calls.append(1)
    )
    assert report.after < report.before
    assert report.gradient > 0
    assert len(calls) == report.steps
    require_on_grid(encoder)
    others = sam.normalise(shapes(4, 64, 100))
    with torch.no_grad():
        true = sam.encoder(others)
        assert float((encoder(others) - true).norm()) < float((plain(others) - true).norm())


def test_where_nothing_helps_the_student_stays_as_it_is(student):
    sam, images, plain = student
    encoder = copy.deepcopy(plain)
    wild = Lesson(steps=2, checks=1, codes=50, ranges=3, biases=50)
    report = distill(sam.encoder, encoder, sam.stages(), images, 4, sam.prompter, wild)
    assert report.after == report.before
    before = plain.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
