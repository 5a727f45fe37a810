import copy
from dataclasses import replace

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.quant import teaching
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.quant.heldout import many, many_are
from dfqsam.quant.learn.decoder import Course, teach
from dfqsam.quant.learn.distill import Lesson
from dfqsam.quant.learn.exercises import Exercise, among
from dfqsam.quant.learn.interaction import mask_loss
from dfqsam.quant.passes import mend
from dfqsam.quant.work import Work
from dfqsam.synth.shapes import shapes
from tests.small_bundle import small_bundle
from tests.small_sam import tiny_sam


@pytest.fixture(scope="module")
def school():
    sam = tiny_sam()
    images = [sam.normalise(picture[None]) for picture in shapes(8, 64, 0)]
    encoder = copy.deepcopy(sam.encoder)
    coarse = replace(QuantConfig.of("w4a4"), weight_bits=2, activation_bits=2, gelu_bits=2)
    quantize_encoder(encoder, sam.sites(), images, len(images), coarse)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        exercises = [Exercise.of(encoder(x), sam.encoder(x), sam.prompter, 4, generator) for x in images]
    return sam, encoder, exercises


def test_a_taught_decoder_answers_more_like_the_one_in_full_precision(school):
    sam, encoder, exercises = school
    decoder, steps = copy.deepcopy(sam.mask_decoder), []
    course = Course(steps=12, checks=3, rate=1e-3)
    report = teach(decoder, sam.prompter, among(exercises[:6]), exercises[6:], course, advance=lambda: steps.append(1))
    assert report.after == min(report.before, *report.curve) < report.before
    assert len(steps) == 12
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in decoder.parameters())
    # On pictures that it never saw, too, and with the loss computed here.
    image = sam.normalise(shapes(1, 64, 50))
    student = replace(sam.prompter, mask_decoder=decoder)
    prompts = sam.prompter.draw(8, torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, found = sam.prompter.ask(sam.encoder(image), prompts), encoder(image)
        plain, taught = sam.prompter.ask(found, prompts), student.ask(found, prompts)
    assert float(mask_loss(taught.logits, wanted.logits)) < float(mask_loss(plain.logits, wanted.logits))


def test_where_nothing_helps_the_decoder_stays_as_it_is(school):
    sam, _, exercises = school
    decoder = copy.deepcopy(sam.mask_decoder)
    report = teach(decoder, sam.prompter, among(exercises[:6]), exercises[6:], Course(steps=2, checks=2, rate=10.0))
    assert report.after == report.before
    _same(decoder, sam.mask_decoder)


def test_who_is_stopped_finds_the_decoder_as_it_was(school):
    sam, _, exercises = school
    decoder, steps = copy.deepcopy(sam.mask_decoder), []

    def stop() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(
            decoder,
            sam.prompter,
            among(exercises[:6]),
            exercises[6:],
            Course(steps=4, checks=4, rate=1e-3),
            advance=stop,
        )
    _same(decoder, sam.mask_decoder)


def test_there_is_nothing_to_learn_where_embeddings_are_those_of_full_precision(school):
    sam, _, _ = school
    with torch.no_grad():
        true = sam.encoder(sam.normalise(shapes(1, 64, 3)))
    exercise = Exercise.of(true, true, sam.prompter, 4, torch.Generator().manual_seed(0))
    report = teach(
        copy.deepcopy(sam.mask_decoder), sam.prompter, among([exercise]), [exercise], Course(steps=1, checks=1)
    )
    assert report.before < 1e-3  # what was wanted is kept in half precision


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(teaching, "course_here", lambda: Course(steps=8, batch=2, rate=1e-4, checks=4))


def test_as_a_pass_it_changes_the_decoder_alone(school, short):
    sam, plain, _ = school
    pictures = list(shapes(4, 64, 0))
    batches = [sam.normalise(picture[None]) for picture in pictures]
    encoder, decoder = copy.deepcopy(plain), copy.deepcopy(sam.mask_decoder)
    before = copy.deepcopy(sam.mask_decoder.state_dict())
    done = mend(Work.of(sam, encoder, batches, pictures, decoder), ["decoder"])
    assert done == {"decoder": 1}
    changed = [not torch.equal(new, before[name]) for name, new in decoder.state_dict().items()]
    assert all(torch.equal(old, before[name]) for name, old in sam.mask_decoder.state_dict().items())
    assert any(changed)
    images = torch.cat(batches)
    with torch.no_grad():
        assert torch.allclose(encoder(images), plain(images), atol=1e-2)  # halves of biases, as after every pass


def test_on_a_gpu_every_step_has_new_images(school, short, monkeypatch):
    sam, plain, _ = school
    monkeypatch.setattr(teaching, "_anew", lambda _work: True)
    pictures = list(shapes(6, 64, 0))
    batches = [sam.normalise(picture[None]) for picture in pictures]
    seen, steps = [], []
    prompter = replace(sam.prompter, kinds=("box", "point"))
    reference = copy.deepcopy(sam.encoder)
    reference.register_forward_pre_hook(lambda _module, inputs: seen.extend(inputs[0].split(1)))
    decoder = copy.deepcopy(sam.mask_decoder)
    work = Work.of(sam, copy.deepcopy(plain), batches, pictures, decoder)
    work = replace(work, reference=reference, prompter=prompter)
    taught = teaching.teach_decoder(work, lambda: steps.append(1))
    old = sam.mask_decoder.state_dict()
    assert taught == any(not torch.equal(value, old[name]) for name, value in decoder.state_dict().items())
    assert len(steps) == teaching.teaching_steps(work) == 8
    judges, drawn = seen[:3], seen[3:]  # of six pictures one judges, with two images drawn of it
    assert torch.equal(judges[0], batches[-1])
    assert len(drawn) == 8 * 2
    assert all(not torch.equal(one, other) for i, one in enumerate(seen) for other in seen[:i])


def test_images_are_counted_without_making_them(school):
    sam, _, _ = school
    pictures = list(shapes(5, 64, 0))
    batches = [sam.normalise(picture[None]) for picture in pictures]
    for count, own, times in ((5, 5, 4), (5, 0, 4), (2, 2, 1), (1, 1, 4)):
        made, fit = many(batches[:count], pictures[:own], sam.normalise, times)
        assert (fit, len(made) - fit) == many_are(batches[:count], pictures[:own], times)


def test_a_single_image_leaves_none_to_judge_by(school):
    sam, plain, _ = school
    decoder = copy.deepcopy(sam.mask_decoder)
    picture = shapes(1, 64, 0)
    work = Work.of(sam, copy.deepcopy(plain), [sam.normalise(picture)], list(picture), decoder)
    assert mend(work, ["decoder"]) == {"decoder": 0}
    _same(decoder, sam.mask_decoder)


def test_models_that_know_clicks_are_asked_with_clicks_too():
    sam = tiny_sam()
    prompter = replace(sam.prompter, kinds=("box", "point"))
    with torch.no_grad():
        true = sam.encoder(sam.normalise(shapes(1, 64, 0)))
    generator = torch.Generator().manual_seed(0)
    kinds = [Exercise.of(true, true, prompter, 4, generator, points).prompts.shape for points in (False, True)]
    assert kinds == [(4, 4), (4, 2)]


def coarsely(folder, *passes):
    config = replace(QuantConfig.of("w4a4"), weight_bits=2, activation_bits=2, gelu_bits=2, passes=passes)
    return small_bundle(folder, tiny_sam(), config)


@pytest.fixture(scope="module")
def untaught(tmp_path_factory):
    return coarsely(tmp_path_factory.mktemp("untaught") / "bundle")


@pytest.mark.parametrize("name", ["decoder", "distillation"])
def test_a_bundle_says_that_its_decoder_was_taught(name, untaught, short, monkeypatch, tmp_path):
    # Six steps that take an eighth of the loss, on whichever processor; where nothing is gained nothing is changed.
    lesson = Lesson(steps=6, checks=6, biases=1e-2, decoder=1e-3, masks=1.0)
    monkeypatch.setattr(teaching, "lesson_here", lambda side=64: lesson)
    made = [untaught, coarsely(tmp_path / "taught", name)]
    said = ["taught" in bundle.manifest.quantization["decoder"] for bundle in made]
    assert said == [False, True]
    kept = made[0].manifest.files["encoder.onnx"].sha256 == made[1].manifest.files["encoder.onnx"].sha256
    assert kept == (name == "decoder")
    assert made[0].manifest.files["decoder.onnx"].sha256 != made[1].manifest.files["decoder.onnx"].sha256


def test_where_only_weights_are_rounded_in_blocks_the_decoder_is_taught_too(school, short):
    sam, _, _ = school
    pictures = list(shapes(4, 64, 0))
    batches = [sam.normalise(picture[None]) for picture in pictures]
    config = QuantConfig.of("w4-only", "taught")
    encoder, decoder = copy.deepcopy(sam.encoder), copy.deepcopy(sam.mask_decoder)
    quantize_encoder(encoder, sam.sites(), batches, len(batches), config)
    before, steps = copy.deepcopy(encoder), []
    taught = teaching.teach_decoder(Work.of(sam, encoder, batches, pictures, decoder), lambda: steps.append(1))
    fit, held_out = many_are(batches, pictures, teaching.LESSONS)
    assert len(steps) == fit + held_out + 8 == 4 * teaching.LESSONS + 8
    _same(encoder, before)
    old = sam.mask_decoder.state_dict()
    assert taught == any(not torch.equal(value, old[name]) for name, value in decoder.state_dict().items())


def _same(one, other):
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
