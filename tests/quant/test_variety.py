import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.quant.variety import Endless, _blended, framed, softened, strained, varied


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


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_strained_pictures_are_pictures_no_larger_than_they_were(height, width, seed):
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    found = strained([picture], times=8, seed=seed)
    assert len(found) == 8
    for x in found:
        assert x.shape[0] == 3
        assert 1 <= max(x.shape[1:]) <= max(height, width)
        assert 0 <= float(x.min()) <= float(x.max()) <= 1


def test_strained_pictures_depend_on_the_seed_alone_and_differ():
    pictures = list(torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(1)))
    first, again, other = strained(pictures), strained(pictures), strained(pictures, seed=1)
    assert len(first) == 6
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not (first[0].shape == first[3].shape and torch.equal(first[0], first[3]))


def test_an_even_picture_stays_even_whatever_is_done_to_it():
    for x in strained([torch.full((3, 20, 30), 0.25)], times=20):
        assert float(x.max() - x.min()) == pytest.approx(0, abs=1e-6)


def test_images_without_end_are_new_and_the_same_for_a_seed():
    pictures = [torch.rand(3, 16, 16), torch.rand(3, 12, 16)]
    seen = []

    def normalise(images):
        seen.append(images)
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
        return F.pad(images, (0, 16 - images.shape[3], 0, 16 - images.shape[2]))

    draw = Endless(pictures, normalise)
    images = draw(40, torch.Generator().manual_seed(0))
    assert images.shape == (40, 3, 16, 16)
    assert len({bytes(image.numpy().tobytes()) for image in images}) == 40
    assert torch.equal(draw(40, torch.Generator().manual_seed(0)), images)
    assert {image.shape[2:] for image in seen} - {(16, 16), (12, 16)}  # some are narrower or lower


def test_a_blend_has_parts_of_both_pictures_and_nothing_beyond_them():
    dark, light = torch.zeros(3, 20, 20), torch.ones(3, 10, 15)
    blend = _blended(dark, light, torch.Generator().manual_seed(0))
    assert blend.shape == dark.shape
    assert 0 <= float(blend.min()) < 0.05
    assert 0.95 < float(blend.max()) <= 1
