import copy
from itertools import pairwise

import pytest
import torch

import dfqsam.quant.learn.reconstruct as reconstruct_module
from dfqsam.config import QuantConfig
from dfqsam.quant.encoder import quantize_encoder, quantized_layers
from dfqsam.quant.layers import require_on_grid
from dfqsam.quant.learn.interaction import missing_dice, prompt_loss
from dfqsam.quant.learn.layers import LearnedLayer
from dfqsam.quant.learn.reconstruct import Fit, reconstruct
from dfqsam.quant.units import entering_unit
from dfqsam.sam.prompter import Prompter
from dfqsam.synth.shapes import shapes
from tests.quant.test_compensate import error, tiny_vit
from tests.small import tiny_encoder
from tests.small_sam import tiny_sam

QUICK = Fit(steps=40, checks=4)


@pytest.mark.parametrize(("make", "crop", "profile"), [(tiny_encoder, 8, "w4a4"), (tiny_vit, None, "W4A4")])
def test_blocks_come_closer_on_other_pictures_and_weights_end_on_their_grids(make, crop, profile):
    reference = make()
    images = list(shapes(8, 64, 0)[:, None] - 0.5)
    encoder = copy.deepcopy(reference)
    quantize_encoder(encoder, encoder.sites(), images, len(images), QuantConfig.of(profile))
    others, plain = shapes(4, 64, 100) - 0.5, copy.deepcopy(encoder)
    report = reconstruct(reference, encoder, encoder.units(), images, 6, QUICK, crop=crop)
    assert error(reference, encoder, others) < 0.97 * error(reference, plain, others)
    require_on_grid(encoder)
    assert not any(isinstance(module, LearnedLayer) for module in encoder.modules())
    assert all(entry.after <= entry.before for entry in report.values())
    # What stays in full precision is not fitted.
    assert set(report) == {name for name in encoder.units() if quantized_layers(encoder.get_submodule(name))}


def test_blocks_come_closer_where_products_are_of_bfloat16(monkeypatch):
    """As processors and GPUs do that compute them quickly."""
    monkeypatch.setattr(reconstruct_module, "quick_in_bfloat16", lambda _device: True)
    reference, images = tiny_encoder(), list(shapes(8, 64, 0)[:, None] - 0.5)
    encoder = copy.deepcopy(reference)
    quantize_encoder(encoder, encoder.sites(), images, len(images), QuantConfig.of("w4a4"))
    others, plain = shapes(4, 64, 100) - 0.5, copy.deepcopy(encoder)
    reconstruct(reference, encoder, encoder.units(), images, 6, QUICK, crop=8)
    assert error(reference, encoder, others) < 0.97 * error(reference, plain, others)
    require_on_grid(encoder)


def test_a_block_that_gets_no_better_is_left_once_its_codes_are_fixed(monkeypatch):
    reference, images = tiny_encoder(), list(shapes(3, 64, 0)[:, None] - 0.5)
    encoder, judged = copy.deepcopy(reference), []
    quantize_encoder(encoder, encoder.sites(), images, len(images), QuantConfig.of("w4a8"))
    hard_error = reconstruct_module._hard_error
    monkeypatch.setattr(reconstruct_module, "_hard_error", lambda *a: judged.append(1) or hard_error(*a))
    still = Fit(steps=8, checks=8, codes=0, ranges=0, biases=0)
    report = reconstruct(reference, encoder, encoder.units(), images, 2, still)
    assert len(judged) == len(report) * (4 + still.patience)  # of the eight steps four move codes


def test_codes_that_came_out_worse_are_taken_back_before_steps_and_biases_are_fitted():
    reference, images = tiny_encoder(), list(shapes(8, 64, 0)[:, None] - 0.5)
    encoder = copy.deepcopy(reference)
    quantize_encoder(encoder, encoder.sites(), images, len(images), QuantConfig.of("w4a4"))
    before = copy.deepcopy(encoder)
    wild = Fit(steps=40, checks=4, codes=10.0, ranges=1e-9, biases=1e-2)  # any code may turn over in any step
    report = reconstruct(reference, encoder, encoder.units(), images, 6, wild, crop=8)
    as_they_were = []
    for name, entry in report.items():
        pair = (quantized_layers(whole.get_submodule(name)).values() for whole in (before, encoder))
        if all(torch.equal(old.codes, new.codes) for old, new in zip(*pair, strict=True)):
            as_they_were.append(entry)
    assert as_they_were
    assert all(entry.after < entry.before for entry in as_they_were)


def test_every_step_asks_the_decoder_about_one_image_where_the_neck_can_read_the_unit(monkeypatch):
    sam, asked = tiny_sam(), []
    images = [sam.normalise(picture) for picture in shapes(4, 64, 0)[:, None]]
    encoder = copy.deepcopy(sam.encoder)
    quantize_encoder(encoder, sam.sites(), images, len(images), QuantConfig.of("w4a8"))
    ask = Prompter.ask
    monkeypatch.setattr(Prompter, "ask", lambda *a: asked.append((len(a[1]), len(a[2]))) or ask(*a))
    settings = Fit(steps=3, checks=1)
    reconstruct(sam.encoder, encoder, sam.units(), images, 3, settings, sam.prompter)
    width = sam.encoder.get_submodule(f"{sam.units()[-1]}.0").in_features
    with torch.no_grad():
        x, read = entering_unit(sam.encoder, sam.units()[0], images[0]), 0
        for name in sam.units():
            x = sam.encoder.get_submodule(name)(x)
            readable = x.shape[-1] == width or name == sam.units()[-1]
            read += readable and bool(quantized_layers(encoder.get_submodule(name)))
    assert read >= 2
    assert asked == [(1, settings.prompts)] * (2 * settings.steps * read)  # of full precision, and of the unit


def test_units_stand_in_a_row():
    for encoder in (tiny_encoder(), tiny_vit()):
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def hook(_module, inputs, output, seen=seen):
            seen.append((inputs[0], output))

        for name in encoder.units():
            encoder.get_submodule(name).register_forward_hook(hook)
        with torch.no_grad():
            embedding = encoder(shapes(1, 64, 0))
        assert len(seen) == len(encoder.units())
        assert all(torch.equal(before[1], after[0]) for before, after in pairwise(seen))
        assert torch.equal(seen[-1][1].permute(0, 3, 1, 2), embedding)


def test_a_rate_of_nothing_leaves_the_encoder_as_it_was():
    reference, images = tiny_encoder(), list(shapes(3, 64, 0)[:, None] - 0.5)
    encoder = copy.deepcopy(reference)
    quantize_encoder(encoder, encoder.sites(), images, len(images), QuantConfig.of("w4a8"))
    before = copy.deepcopy(encoder.state_dict())
    still = Fit(steps=4, checks=2, codes=0, ranges=0, biases=0)
    report = reconstruct(reference, encoder, encoder.units(), images, 2, still)
    assert all(entry.after == entry.before for entry in report.values())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_the_same_seed_gives_the_same_weights():
    sam = tiny_sam()
    images = [sam.normalise(picture) for picture in shapes(4, 64, 0)[:, None]]
    made = []
    for _ in range(2):
        encoder = copy.deepcopy(sam.encoder)
        quantize_encoder(encoder, sam.sites(), images, len(images), QuantConfig.of("w4a8"))
        reconstruct(sam.encoder, encoder, sam.units(), images, 3, Fit(steps=2, checks=1), sam.prompter)
        made.append(encoder.state_dict())
    assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())


def test_a_fit_that_was_stopped_goes_on_and_ends_where_it_would_have(tmp_path, monkeypatch):
    sam = tiny_sam()
    images = [sam.normalise(picture) for picture in shapes(4, 64, 0)[:, None]]
    quantized = copy.deepcopy(sam.encoder)
    quantize_encoder(quantized, sam.sites(), images, len(images), QuantConfig.of("W4A4"))
    settings = Fit(steps=2, checks=1)

    def fitted(keep, advance=lambda: None):
        encoder = copy.deepcopy(quantized)
        report = reconstruct(sam.encoder, encoder, sam.units(), images, 3, settings, keep=keep, advance=advance)
        return report, encoder

    wanted, whole = fitted(None)
    done = []

    def stop():
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, stop)
    kept = sorted(tmp_path.rglob("*.pt"))
    assert 1 <= len(kept) <= 3
    kept[0].write_bytes(b"damaged")
    fits = []
    fit_unit = reconstruct_module._fit_unit
    monkeypatch.setattr(reconstruct_module, "_fit_unit", lambda *a: fits.append(1) or fit_unit(*a))
    found, resumed = fitted(tmp_path)
    assert len(fits) == len(sam.units()) - len(kept) + 1  # all but those kept, and the damaged one
    assert found == wanted
    x = sam.normalise(shapes(1, 64, 5))
    assert torch.equal(whole(x), resumed(x))


@torch.no_grad()
def test_prompts_make_the_same_of_the_same_embedding_and_another_thing_of_another():
    sam = tiny_sam()
    embedding = torch.randn(2, 256, 16, 16, generator=torch.Generator().manual_seed(1))
    prompts = sam.prompter.draw(3, torch.Generator().manual_seed(0))
    assert prompts.shape == (3, 4)
    assert bool((prompts[:, 2:] >= prompts[:, :2]).all())
    answers = [sam.prompter.ask(embedding[i : i + 1], prompts) for i in range(2)]
    assert answers[0].tokens.shape == (3, 256, 256)
    assert answers[0].logits.shape == (3, 64, 64)
    assert abs(float(prompt_loss(answers[0], answers[0]))) < 1e-6
    assert float(prompt_loss(answers[1], answers[0])) > 1e-3


def test_missing_dice_by_hand():
    true = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    found = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    assert missing_dice(found, true).item() == pytest.approx((1 / 3 + 1) / 2)
    assert missing_dice(true, true).item() == pytest.approx(0)
