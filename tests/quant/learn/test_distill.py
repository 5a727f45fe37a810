import copy

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.quant.layers import require_on_grid
from dfqsam.quant.learn.distill import Lesson, distill
from dfqsam.quant.learn.fit import rate
from dfqsam.quant.passes import Work, distill_all, mend
from dfqsam.quant.variety import Endless
from dfqsam.synth.shapes import shapes
from tests.small_sam import tiny_sam


@pytest.fixture(scope="module")
def student():
    sam = tiny_sam()
    pictures = shapes(6, 64, 0)
    images = [sam.normalise(picture[None]) for picture in pictures]
    encoder = copy.deepcopy(sam.encoder)
    quantize_encoder(encoder, sam.sites(), images, len(images), QuantConfig.of("w4a4"))
    return sam, Endless(list(pictures[:4]), sam.normalise), images[4:], encoder


def test_the_student_learns_and_its_weights_stay_on_their_grids(student):
    sam, draw, held_out, plain = student
    encoder, calls = copy.deepcopy(plain), []
    lesson = Lesson(steps=9, checks=3, batch=3, together=2, codes=1e-2)
    report = distill(
        sam.encoder, encoder, sam.stages(), draw, held_out, sam.prompter, lesson, advance=lambda: calls.append(1)
    )
    assert report.after == min(report.before, *report.curve)
    assert report.after < report.before
    assert report.gradient > 0
    assert len(calls) == report.steps
    require_on_grid(encoder)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    others = sam.normalise(shapes(4, 64, 100))
    with torch.no_grad():
        true = sam.encoder(others)
        assert float((encoder(others) - true).norm()) < float((plain(others) - true).norm())


def test_where_nothing_helps_the_student_stays_as_it_is(student):
    sam, draw, held_out, plain = student
    encoder = copy.deepcopy(plain)
    wild = Lesson(steps=2, checks=1, codes=50, ranges=3, biases=50, scales=3, floats=3)
    report = distill(sam.encoder, encoder, sam.stages(), draw, held_out, sam.prompter, wild)
    assert report.after == report.before
    _same(encoder, plain)


def test_who_is_stopped_finds_the_student_as_it_was(student):
    sam, draw, held_out, plain = student
    encoder = copy.deepcopy(plain)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(
            sam.encoder, encoder, sam.stages(), draw, held_out, sam.prompter, Lesson(steps=3, codes=0.5), advance=stop
        )
    _same(encoder, plain)


def test_only_the_terms_that_weigh_something_are_learned_from(student):
    sam, draw, held_out, plain = student
    encoder = copy.deepcopy(plain)
    silent = Lesson(steps=2, checks=1, spatial=0, channel=0, features=0, embedding=0, masks=0)
    report = distill(sam.encoder, encoder, sam.stages(), draw, held_out, sam.prompter, silent)
    assert report.before == report.gradient == 0
    _same(encoder, plain)


def test_rates_rise_and_fall():
    assert rate(0.0, 0.1) < 0.02
    assert rate(0.05, 0.1) == pytest.approx(0.51)
    assert rate(0.1, 0.1) == 1
    assert rate(0.55, 0.1) == pytest.approx(0.5)
    assert rate(1.0, 0.1) == pytest.approx(0)


def test_as_a_pass_it_learns_from_three_quarters_of_the_pictures(student, monkeypatch):
    sam, _, _, plain = student
    monkeypatch.setattr("dfqsam.quant.passes.lesson_here", lambda: Lesson(steps=4, checks=2, codes=1e-2))
    pictures = list(shapes(8, 64, 0))
    batches = [sam.normalise(picture[None]) for picture in pictures]
    encoder = copy.deepcopy(plain)
    done = mend(Work.of(sam, encoder, batches, pictures), ("distillation",))
    assert done == {"distillation": sum(1 for m in encoder.modules() if hasattr(m, "codes"))}
    require_on_grid(encoder)
    others = sam.normalise(shapes(4, 64, 100))
    with torch.no_grad():
        true = sam.encoder(others)
        assert float((encoder(others) - true).norm()) < float((plain(others) - true).norm())
    one = Work.of(sam, copy.deepcopy(plain), batches[:1], pictures[:1])
    assert distill_all(one, lambda: None) == 0  # none is left to judge by
    with pytest.raises(ValueError, match="lacks"):
        distill_all(Work.of(sam, one.encoder, batches), lambda: None)


def _same(encoder, plain):
    before = plain.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    for name, module in plain.named_modules():
        if hasattr(module, "grid"):
            assert encoder.get_submodule(name).grid == module.grid
