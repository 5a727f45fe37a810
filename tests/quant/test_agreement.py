import copy

import torch

from dfqsam.quant.agreement import KEPT_OUT, PROMPTS, Agreement, kept_out
from dfqsam.synth.shapes import shapes
from tests.small_sam import tiny_sam


def test_an_encoder_agrees_with_itself_and_less_with_a_disturbed_one():
    sam = tiny_sam()
    images = [sam.normalise(picture[None]) for picture in shapes(3, 64, 0)]
    judge = Agreement.of(sam.encoder, sam.prompter, images)
    assert all(len(masks) == PROMPTS for masks in judge.masks)
    assert judge(sam.encoder) == 100.0
    other = copy.deepcopy(sam.encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    assert 0.0 <= judge(other) < 100.0


def test_the_mean_dice_by_hand():
    class Halves:
        """Answers with the embedding itself: one mask for each prompt."""

        def draw(self, count, generator):
            return torch.zeros(count, 4)

        def ask(self, embedding, prompts):
            from types import SimpleNamespace

            return SimpleNamespace(logits=embedding.expand(len(prompts), -1, -1, -1))

    image = torch.tensor([1.0, 1.0, -1.0, -1.0]).reshape(1, 1, 2, 2)
    judge = Agreement.of(torch.nn.Identity(), Halves(), [image, -torch.ones(1, 1, 2, 2)])  # type: ignore[arg-type]

    class Half(torch.nn.Module):
        def forward(self, x):
            return torch.where(torch.tensor([[True, False], [True, True]]), x, -1.0)

    # The first mask has two pixels of which one is found: Dice 2 / 3; the second one is empty and stays so.
    assert abs(judge(Half()) - 100 * (2 / 3 + 1) / 2) < 1e-3


def test_images_to_judge_by_are_those_that_nothing_was_fitted_on():
    pictures = list(shapes(20, 64, 0))
    found = kept_out(pictures)
    assert len(found) == 4  # sixteen are fitted on
    assert len(kept_out(list(shapes(40, 64, 0)))) == KEPT_OUT
    assert len(kept_out(pictures[:5])) == 5  # no others
