import math

import torch

from dfqsam.synth.losses import attention_prior, diversity, focal, segmentation, soft_dice
from dfqsam.synth.pyramid import Pyramid, total_variation
from dfqsam.synth.taps import AttentionTap
from tests.small_sam import tiny_sam


def test_focal_and_dice_by_hand():
    zero, one = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    assert abs(float(focal(zero, one)) - 0.25 * 0.25 * math.log(2)) < 1e-6
    assert abs(float(focal(zero, zero)) - 0.75 * 0.25 * math.log(2)) < 1e-6
    # sigmoid(0) = 1/2: 1 - (2 * 2 + 1) / (2 + 4 + 1)
    assert abs(float(soft_dice(zero, one)) - 2 / 7) < 1e-6


def test_segmentation_is_small_for_the_right_mask_and_falls_along_its_gradient():
    target = torch.zeros(1, 8, 8)
    target[:, 2:6, 2:6] = 1
    right = segmentation(40 * (target - 0.5), torch.ones(1), target)
    assert float(right) < 1e-3
    logits = torch.zeros(1, 8, 8, requires_grad=True)
    before = segmentation(logits, torch.ones(1), target)
    before.backward()
    assert segmentation(logits.detach() - logits.grad, torch.ones(1), target) < before


def test_diversity_is_the_mean_similarity_of_different_images():
    pooled = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert float(diversity(pooled)) == 0
    assert float(diversity(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))) == 1
    assert float(diversity(pooled, torch.tensor([[5.0, 0.0]]))) == 0.25  # two pairs inside give 0, outside 1 and 0
    assert float(diversity(pooled[:1])) == 0


def test_total_variation_by_hand():
    image = torch.zeros(1, 1, 2, 2)
    image[..., 1] = 1  # differences: down 0, right 1
    assert total_variation(image).tolist() == [0.5]


def test_a_pyramid_starts_at_its_images_and_stays_in_range():
    images = torch.rand(2, 3, 32, 32)
    pyramid = Pyramid.around(images)
    assert float((pyramid().detach() - images.clamp(0.02, 0.98)).abs().max()) < 1e-5
    for level in pyramid.levels:
        level.data += 100
    assert float(pyramid().detach().max()) <= 1


def test_attention_prior_is_least_where_attention_follows_the_mask():
    sam = tiny_sam()
    masks = torch.zeros(1, 64, 64)
    masks[:, 8:24, 8:24] = 1
    with torch.no_grad(), AttentionTap(sam.encoder, sam.sites()) as tap:
        sam.embed(torch.rand(1, 3, 64, 64))
    assert tap.windows == [14]
    assert tap.grids == [(16, 16)]
    torch.testing.assert_close(tap.received[0].sum(-1), torch.ones(len(tap.received[0])))
    value = attention_prior(tap, masks)
    assert float(value) > 0
    assert float(attention_prior(tap, torch.zeros_like(masks))) == 0
    # Attention that is exactly what is wanted costs nothing.
    from dfqsam.sam.windows import partition

    soft = torch.nn.functional.adaptive_avg_pool2d(masks[:, None], (16, 16))
    soft = torch.nn.functional.avg_pool2d(soft, 3, 1, 1, count_include_pad=False)[:, 0, :, :, None]
    keys = partition(soft, 14, soft.new_zeros(1))[..., 0]
    tap.totals[0] = 0.5 * keys / keys.sum(-1, keepdim=True).clamp_min(1e-6) + 0.5 / keys.shape[-1]
    assert float(attention_prior(tap, masks)) < 1e-10
