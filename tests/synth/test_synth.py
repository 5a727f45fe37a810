import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.config import SynthesisConfig
from dfqsam.synth.noise import noise
from dfqsam.synth.psaq import psaq
from dfqsam.synth.shapes import shapes
from dfqsam.synth.similarity import cosine_similarities, differential_entropy
from tests.small import tiny_encoder


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
    encoder = tiny_encoder()
    config = SynthesisConfig("psaq", images=3, seed=1, steps=15, batch=2)
    history: list[float] = []

    def advance(entropy: float, variation: float) -> None:
        history.append(entropy)

    images = psaq(encoder, encoder, encoder.sites(), 64, config, advance)
    assert images.shape == (3, 3, 64, 64)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert len(history) == 30
    assert sum(history[12:15]) > sum(history[:3])
    assert torch.equal(images, psaq(encoder, encoder, encoder.sites(), 64, config))
