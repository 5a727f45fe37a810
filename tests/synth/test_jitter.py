import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.synth.jitter import Jitter, apply, draw
from dfqsam.synth.layouts import boxes_of, random_layouts


def painted(masks):
    return masks.any(1, keepdim=True).float()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(-90, 90), st.integers(-90, 90), st.floats(0.2, 1), st.booleans())
def test_a_painted_mask_stays_in_register(seed, dy, dx, scale, flip):
    masks = random_layouts(1, 64, seed)
    images, moved = apply(painted(masks), masks, Jitter(dy, dx, scale, flip))
    assert images.shape == (1, 1, 64, 64)
    assert moved.shape == masks.shape
    seen, wanted = images[0, 0] >= 0.5, moved[0].any(0)
    # Bilinear corners are rounder than nearest ones: pixels differ along the rim only, by less than one source pixel.
    rim = wanted.float()[None, None]
    width = 2 * round(1 / scale) + 1
    inner = -torch.nn.functional.max_pool2d(-rim, width, 1, width // 2)[0, 0] > 0
    outer = torch.nn.functional.max_pool2d(rim, width, 1, width // 2)[0, 0] > 0
    assert not (inner & ~seen).any()
    assert not (seen & ~outer).any()
    if scale == 1:
        assert torch.equal(seen, wanted)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_drawn_jitter_keeps_large_masks_at_an_iou_near_one(seed):
    masks = torch.zeros(1, 1, 128, 128, dtype=torch.bool)
    masks[0, 0, 30:100, 20:90] = True
    jitter = draw(torch.Generator().manual_seed(seed), 128, 8, 0.5)
    images, moved = apply(painted(masks), masks, jitter)
    seen, wanted = images[0, 0] >= 0.5, moved[0, 0]
    assert (seen & wanted).sum() >= 0.97 * (seen | wanted).sum()


@pytest.mark.parametrize(("dy", "dx"), [(3, -5), (0, 7), (-2, 0)])
def test_a_whole_shift_is_exact_and_boxes_follow(dy, dx):
    images, masks = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    masks[:, :, 10:15, 8:20] = True
    moved, shifted = apply(images, masks, Jitter(dy, dx))
    assert torch.equal(moved[..., 8 + dy : 20 + dy, 8 + dx : 20 + dx], images[..., 8:20, 8:20])
    assert boxes_of(shifted)[0, 0].tolist() == [8 + dx, 10 + dy, 19 + dx, 14 + dy]


def test_borders_reflect_and_nothing_wraps_round():
    row = torch.arange(5.0).expand(1, 1, 5, 5)
    moved, _ = apply(row, row > 9, Jitter(0, 2))
    assert moved[0, 0, 0].tolist() == [2, 1, 0, 1, 2]
    flipped, _ = apply(row, row > 9, Jitter(flip=True))
    assert flipped[0, 0, 0].tolist() == [4, 3, 2, 1, 0]


def test_images_are_differentiable_and_draws_come_from_the_generator():
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    moved, _ = apply(images, torch.zeros(1, 3, 16, 16, dtype=torch.bool), Jitter(1, 2, 0.6, True))
    moved.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    drawn = [draw(torch.Generator().manual_seed(4), 64, 4, 0.5) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert draw(torch.Generator().manual_seed(4), 64, 4, 1.0).scale == 1


def test_impossible_jitters_are_refused():
    with pytest.raises(ValueError, match="scale"):
        Jitter(scale=0)
    with pytest.raises(ValueError, match="resolution"):
        apply(torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 4, 4, dtype=torch.bool), Jitter())
