import copy
from dataclasses import replace

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.quant import teaching
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.quant.layers import require_on_grid
from dfqsam.quant.learn.distill import LONG, Lesson, distill
from dfqsam.quant.learn.fit import rate
from dfqsam.quant.learn.interaction import mask_loss
from dfqsam.quant.passes import mend
from dfqsam.quant.teaching import distill_all
from dfqsam.quant.variety import Endless
from dfqsam.quant.work import Work
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


def test_a_decoder_learns_along_and_answers_more_like_the_one_in_full_precision(student):
    sam, draw, held_out, _ = student
    encoder, decoder, old = copy.deepcopy(sam.encoder), copy.deepcopy(sam.mask_decoder), copy.deepcopy(sam.mask_decoder)
    coarse = replace(QuantConfig.of("w4a4"), weight_bits=2, activation_bits=2, gelu_bits=2)
    quantize_encoder(encoder, sam.sites(), held_out, len(held_out), coarse)
    plain = copy.deepcopy(encoder)
    only_masks = Lesson(steps=12, checks=3, spatial=0, channel=0, features=0, embedding=0, masks=1.0, decoder=3e-4)
    frozen = replace(only_masks, codes=0, ranges=0, biases=0, scales=0, floats=0)
    report = distill(sam.encoder, encoder, sam.stages(), draw, held_out, sam.prompter, frozen, decoder=decoder)
    assert report.after < report.before
    _same(encoder, plain)  # nothing but the decoder could learn
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in decoder.parameters())
    assert any(not torch.equal(p, q) for p, q in zip(decoder.parameters(), old.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in zip(sam.mask_decoder.parameters(), old.parameters(), strict=True))
    image = sam.normalise(shapes(1, 64, 50))
    prompts = sam.prompter.draw(8, torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, found = sam.prompter.ask(sam.encoder(image), prompts), encoder(image)
        before = sam.prompter.ask(found, prompts)
        after = replace(sam.prompter, mask_decoder=decoder).ask(found, prompts)
    assert float(mask_loss(after.logits, wanted.logits)) < float(mask_loss(before.logits, wanted.logits))


def test_who_is_stopped_finds_the_decoder_as_it_was_too(student):
    sam, draw, held_out, plain = student
    encoder, decoder, steps = copy.deepcopy(plain), copy.deepcopy(sam.mask_decoder), []

    def stop() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt

    lesson = Lesson(steps=3, codes=0.5, decoder=1e-2)
    with pytest.raises(KeyboardInterrupt):
        distill(sam.encoder, encoder, sam.stages(), draw, held_out, sam.prompter, lesson, advance=stop, decoder=decoder)
    _same(encoder, plain)
    for mine, theirs in zip(decoder.parameters(), sam.mask_decoder.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_gpu_learns_from_as_many_images_at_once_as_it_has_room_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert teaching.lesson_here() == Lesson()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for free, side, together in ((80e9, 256, 8), (13e9, 256, 3), (1e9, 256, 1), (80e9, 1024, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (int(free), int(80e9)))
        assert teaching.lesson_here(side) == replace(LONG, together=together)


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
    monkeypatch.setattr(teaching, "lesson_here", lambda side=64: Lesson(steps=4, checks=2, codes=1e-2))
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
