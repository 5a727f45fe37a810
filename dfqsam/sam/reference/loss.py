"""What is minimised: SAM's focal, Dice and IoU terms against a mask, and a teacher's logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqsam.synth.losses import FOCAL_WEIGHT, focal, soft_dice

DISTILLATION = 1.0


def overlap(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and IoU of the masks (logits above 0) with the targets, N each; 1 where both are empty."""
    mask, wanted = logits > 0, target > 0.5
    both = (mask & wanted).sum((1, 2)).float()
    total = mask.sum((1, 2)).float() + wanted.sum((1, 2)).float()
    return (2 * both + 1e-6) / (total + 1e-6), (both + 1e-6) / (total - both + 1e-6)


def within_box(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy over each target's bounding box alone, N. Unlike the focal and the Dice term it still pulls
    where everything is background, which is what a decoder answers first to embeddings that mean nothing yet."""
    rows, columns = (target.amax(2) > 0.5).float(), (target.amax(1) > 0.5).float()
    # From the first to the last one: where some come before and some after, both included.
    rows, columns = (((x.cumsum(1) > 0) & (x.flip(1).cumsum(1).flip(1) > 0)).float() for x in (rows, columns))
    box = rows[:, :, None] * columns[:, None, :]
    terms = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * box
    return terms.sum((1, 2)) / box.sum((1, 2)).clamp_min(1)


def against_masks(logits: Tensor, quality: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """20 focal + Dice + cross-entropy within the box + (IoU - predicted IoU)², a mean over N masks weighed by
    ``weight``.

    Args:
        logits: N x H x W.
        quality: N, the predicted IoU.
        target: N x H x W in {0, 1}.
        weight: N, 0 for masks that do not count.
    """
    _, iou = overlap(logits.detach(), target)
    terms = FOCAL_WEIGHT * focal(logits, target) + soft_dice(logits, target)
    terms = terms + within_box(logits, target) + (quality - iou).square()
    return (terms * weight).sum() / weight.sum().clamp_min(1e-6)


def against_teacher(logits: Tensor, taught: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy with the teacher's probabilities. A teacher counts as much as it is right: each mask by the
    square of the teacher's Dice with the target. Less the teacher's own entropy, so that 0 is its mask exactly.

    Args:
        logits, taught: N x H x W, of the student and of the teacher.
        target: N x H x W in {0, 1}.
        weight: N.
    """
    wanted = taught.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    least = F.binary_cross_entropy_with_logits(taught, wanted, reduction="none")
    trust = weight * overlap(taught, target)[0].square()
    terms = (cross - least).mean((1, 2)) * trust
    return DISTILLATION * terms.sum() / torch.clamp_min(weight.sum(), 1e-6)
