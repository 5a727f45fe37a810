import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.config import SynthesisConfig
from dfqsam.synth.layouts import random_layouts
from dfqsam.synth.noise import noise
from dfqsam.synth.psaq import psaq
from dfqsam.synth.shapes import paint, shapes
from dfqsam.synth.similarity import cosine_similarities, differential_entropy
from dfqsam.synth.synthesize import settled
from tests.small_sam import tiny_sam


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.sampled_from([32, 64]), st.integers(0, 2**31))
def test_images_are_in_range_and_come_from_the_seed(count, size, seed):
    for method in (noise, shapes):
        images = method(count, size, seed)
        assert images.shape == (count, 3, size, size)
        assert images.dtype == torch.float32
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
        assert torch.equal(images, method(count, size, seed))
        assert not torch.equal(images, method(count, size, seed + 1))


def test_a_drawn_picture_does_not_depend_on_how_many_are_drawn():
    assert torch.equal(shapes(3, 32, 4)[:2], shapes(2, 32, 4))


def test_entropy_of_known_distributions():
    torch.manual_seed(0)
    gaussian = torch.randn(20_000) * 0.2
    expected = 0.5 * math.log(2 * math.pi * math.e * (0.2**2 + 0.03**2))
    assert abs(float(differential_entropy(gaussian)) - expected) < 0.02
    uniform = torch.rand(20_000) * 1.6 - 0.8
    assert abs(float(differential_entropy(uniform)) - math.log(1.6)) < 0.05


def test_similarities_leave_out_the_diagonal_and_the_mirror():
    tokens = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    assert cosine_similarities(tokens).tolist() == [0.0, -1.0, 0.0]


def test_psaq_raises_the_patch_similarity_entropy_and_is_reproducible():
    sam = tiny_sam()
    config = SynthesisConfig("psaq", images=3, seed=1, steps=15, batch=2, early=0)
    history: list[float] = []

    def advance(entropy: float, variation: float) -> None:
        history.append(entropy)

    images = psaq(sam, config, advance)
    assert images.shape == (3, 3, 64, 64)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert len(history) == 30
    assert sum(history[12:15]) > sum(history[:3])
    assert torch.equal(images, psaq(sam, config))


def test_paint_draws_an_object_where_the_mask_is_and_nowhere_else():
    images, masks = shapes(2, 64, 0), random_layouts(2, 64, 0)
    painted = paint(images, masks, 3)
    change = (painted - images).abs().amax(1)
    for i in range(2):
        inside = masks[i].any(0)
        far = torch.nn.functional.max_pool2d(inside[None].float(), 17, 1, 8)[0] == 0
        assert float(change[i][inside].mean()) > 0.05
        assert float(change[i][far].max() if far.any() else 0) < 1e-3
    assert torch.equal(painted, paint(images, masks, 3))


def test_auto_forms_images_where_statistics_are_kept_and_draws_them_elsewhere():
    sam = tiny_sam()
    assert settled(sam, SynthesisConfig(images=3)) == SynthesisConfig("dfqsam", images=3)
    assert settled(sam, SynthesisConfig("noise")) == SynthesisConfig("noise")
    sam.encoder.batch_norm = {}
    assert settled(sam, SynthesisConfig(seed=5)) == SynthesisConfig("shapes", seed=5)


def test_quick_is_less_of_the_same_and_never_more():
    config = SynthesisConfig("dfqsam", images=40, steps=24, seed=7, attention=True)
    assert config.quick() == SynthesisConfig("dfqsam", images=16, steps=8, seed=7, attention=True)
    assert SynthesisConfig("psaq", images=2, steps=3).quick() == SynthesisConfig("psaq", images=2, steps=3)
