import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dfqsam.synth.evolution import AREA_LIMIT, COMPONENTS, grow
from dfqsam.synth.layouts import LAYOUTS, random_layouts
from dfqsam.synth.prior import Candidate

SIZE = 32


def box(y0, y1, x0, x1):
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def slots(*masks):
    empty = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    return torch.stack([*masks, *[empty] * (LAYOUTS - len(masks))])[None]


boxes = st.tuples(*[st.integers(0, SIZE - 1), st.integers(1, 20)] * 2).map(
    lambda b: box(b[0], b[0] + b[1], b[2], b[2] + b[3])
)
# Up to four boxes a mask, so that candidates fall apart into components too.
regions = st.lists(boxes, max_size=4).map(lambda many: torch.stack([box(0, 0, 0, 0), *many]).any(0))
proposals = st.lists(st.builds(Candidate, regions, st.floats(0, 1)), max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), proposals)
def test_masks_only_grow_stay_apart_and_keep_the_limits(seed, proposed):
    before = random_layouts(1, SIZE, seed)
    kept = before.clone()
    after = grow(before, [proposed])
    assert torch.equal(before, kept)
    assert after.shape == before.shape
    assert after.dtype == torch.bool
    assert not (before & ~after).any()
    assert int(after.sum(1).max()) <= 1
    for mask in after[0]:
        assert int(mask.sum()) <= AREA_LIMIT * SIZE**2
        assert ndimage.label(mask.numpy(), [[1] * 3] * 3)[1] <= COMPONENTS


@settings(max_examples=80, deadline=None)
@given(st.lists(regions, min_size=LAYOUTS, max_size=LAYOUTS), proposals)
def test_any_masks_are_taken_and_no_mask_rises_beyond_the_limit(masks, proposed):
    before = torch.stack(masks)[None]
    after = grow(before, [proposed])
    for old, new in zip(before[0].sum((1, 2)), after[0].sum((1, 2)), strict=True):
        assert new <= max(int(old), AREA_LIMIT * SIZE**2)
        assert bool(new) or not bool(old)


@given(st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_no_proposals_and_empty_ones_change_nothing(seed, confidence):
    masks = random_layouts(2, SIZE, seed)
    assert torch.equal(grow(masks, [[], []]), masks)
    assert torch.equal(grow(masks, [[Candidate(box(0, 0, 0, 0), confidence)], []]), masks)


def test_a_candidate_extends_the_mask_it_speaks_of():
    masks, candidate = slots(box(4, 10, 4, 10), box(20, 24, 20, 24)), box(4, 10, 7, 13)
    after = grow(masks, [[Candidate(candidate, 0.9)]])
    assert torch.equal(after[0, 0], box(4, 10, 4, 13))
    assert torch.equal(after[0, 1:], masks[0, 1:])


def test_a_candidate_far_from_all_takes_a_free_slot_if_there_is_one():
    far = Candidate(box(25, 30, 2, 8), 0.9)
    after = grow(slots(box(4, 10, 4, 10)), [[far]])
    assert torch.equal(after[0, 1], far.mask)
    full = slots(box(0, 3, 0, 3), box(10, 13, 10, 13), box(20, 23, 20, 23))
    assert torch.equal(grow(full, [[far]]), full)


def test_weak_overlap_says_nothing_and_growth_stops_at_the_limit():
    masks = slots(box(4, 10, 4, 10))
    assert torch.equal(grow(masks, [[Candidate(box(9, 20, 9, 20), 0.9)]]), masks)
    assert torch.equal(grow(masks, [[Candidate(box(0, 20, 0, 20), 0.9)]]), masks)


def test_a_mask_beyond_the_limit_is_replaced_by_a_smaller_candidate():
    masks = slots(box(0, 20, 0, 20))
    smaller = box(2, 18, 2, 18)
    assert torch.equal(grow(masks, [[Candidate(smaller, 0.9)]])[0, 0], smaller)
    assert torch.equal(grow(masks, [[Candidate(box(0, 24, 0, 24), 0.9)]]), masks)


def test_what_is_taken_by_another_mask_stays_with_it():
    masks = slots(box(4, 10, 4, 10), box(4, 10, 11, 14))
    after = grow(masks, [[Candidate(box(4, 10, 4, 14), 0.9)]])
    assert torch.equal(after[0, 0], box(4, 10, 4, 11))
    assert torch.equal(after[0, 1], masks[0, 1])
