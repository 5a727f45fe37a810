"""The terms of DFQ-SAM's objective that need no statistics: segmentation, diversity, and the attention prior.

Source: DFQ-SAM (Li, Zhang, Gu; arXiv 2410.01813); the attention prior after SARDFQ (ICCV 2025).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqsam.sam.windows import partition
from dfqsam.synth.taps import AttentionTap

FOCAL_GAMMA, FOCAL_ALPHA, FOCAL_WEIGHT = 2.0, 0.25, 20.0


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss (Lin et al., 2017) of K x h x w logits against targets in [0, 1]; K.

    >>> float(focal(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)))  # 0.25 * 0.5² * log 2
    0.043321698904037476
    """
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    chance = logits.sigmoid()
    right = chance * target + (1 - chance) * (1 - target)
    balance = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return (balance * (1 - right) ** FOCAL_GAMMA * plain).mean((1, 2))


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - Dice of sigmoid(K x h x w logits) and targets, smoothed by 1 pixel; K."""
    chance = logits.sigmoid()
    return 1 - (2 * (chance * target).sum((1, 2)) + 1) / (chance.sum((1, 2)) + target.sum((1, 2)) + 1)


def segmentation(logits: Tensor, quality: Tensor, target: Tensor) -> Tensor:
    """20 focal + Dice + (soft IoU - predicted IoU)², averaged over K masks.

    Args:
        logits: K x h x w.
        quality: K, the predicted IoU.
        target: K x h x w in {0, 1}.
    """
    chance = logits.sigmoid()
    both = (chance * target).sum((1, 2))
    overlap = (both + 1) / (chance.sum((1, 2)) + target.sum((1, 2)) - both + 1)
    return (FOCAL_WEIGHT * focal(logits, target) + soft_dice(logits, target) + (overlap - quality).square()).mean()


def diversity(pooled: Tensor, others: Tensor | None = None) -> Tensor:
    """Mean cosine similarity between different images; low is diverse.

    Args:
        pooled: B x C, the mean embedding of each image of the batch.
        others: N x C of images that are not in the batch; constants.
    """
    unit = F.normalize(pooled.float(), dim=1)
    inside = unit @ unit.T
    count = len(unit)
    pairs = [inside[~torch.eye(count, dtype=torch.bool, device=unit.device)]]
    if others is not None and len(others):
        pairs.append((unit @ F.normalize(others.float(), dim=1).T).flatten())
    every = torch.cat(pairs)
    return every.mean() if len(every) else unit.sum() * 0


def attention_prior(tap: AttentionTap, masks: Tensor) -> Tensor:
    """How far the attention that keys receive is from the pseudo masks, blurred; mean over windows and blocks.

    Per window, the squared difference between the received attention and the share of the mask that each key holds,
    in units of uniform attention. Windows without any mask say nothing.

    Args:
        masks: B x S x S in [0, 1], the union of each image's pseudo masks.
    """
    terms = []
    for received, window, grid in zip(tap.received, tap.windows, tap.grids, strict=True):
        soft = F.adaptive_avg_pool2d(masks[:, None].float(), grid)
        soft = F.avg_pool2d(soft, 3, 1, 1, count_include_pad=False)[:, 0, :, :, None]
        keys = partition(soft, window, soft.new_zeros(1))[..., 0] if window else soft.flatten(1)
        total = keys.sum(-1, keepdim=True)
        held = total[:, 0] > 0
        if bool(held.any()):
            wanted = (0.5 * keys / total.clamp_min(1e-6) + 0.5 / keys.shape[-1])[held]
            terms.append(((received[held] - wanted) * keys.shape[-1]).square().mean())
    return torch.stack(terms).mean() if terms else masks.sum() * 0
