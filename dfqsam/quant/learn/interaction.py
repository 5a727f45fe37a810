"""What random prompts make of an embedding: the term that keeps masks, not only embeddings.

Source: SAQ-SAM (arXiv 2503.06515), prompt-aware reconstruction: the image tokens that the mask decoder has mixed with
the tokens of prompts must stay what they were. Masks are compared too.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dfqsam.sam.prompter import Answers

OTHERS = 0.25  # what whole, part and sub-part weigh against the single mask


def prompt_loss(found: Answers, wanted: Answers) -> Tensor:
    """How far answers are from what was wanted; a scalar, at least 0.

    The squared error of the mixed tokens relative to their spread, and :func:`mask_loss` of the single masks: a
    Kullback-Leibler divergence of pixels, and Dice, in which small masks count as much as large ones, and which users
    compare.
    """
    tokens = (found.tokens - wanted.tokens).square().mean() / wanted.tokens.var().clamp_min(1e-12)
    return tokens + mask_loss(found.logits, wanted.logits)


def answers_loss(found: Answers, masks: Tensor, quality: Tensor) -> Tensor:
    """How far all that users see of answers is from what was wanted; a scalar, 0 where it is the same.

    :func:`mask_loss` of the single masks and, less, of whole, part and sub-part, and the squared error of the predicted
    IoU.

    Args:
        masks, quality: what was wanted; see :class:`dfqsam.sam.prompter.Answers`. Masks may be in half precision.
    """
    seen, wanted = found.masks.float(), masks.float()
    first, others = (mask_loss(seen[:, part], wanted[:, part]) for part in (slice(0, 1), slice(1, None)))
    return first + OTHERS * others + (found.quality.float() - quality).square().mean()


def mask_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """How far logits (… x H x W) are from what was wanted: cross entropy beyond that of what was wanted with itself,
    and what is missing of the Dice; a scalar, 0 where they are equal."""
    true = wanted.sigmoid()
    divergence = F.binary_cross_entropy_with_logits(found, true) - F.binary_cross_entropy_with_logits(wanted, true)
    return divergence + missing_dice(found.sigmoid(), true)


def missing_dice(found: Tensor, true: Tensor) -> Tensor:
    """1 - Dice of soft masks in [0, 1] (… x H x W), the mean over all; 0 where they are equal.

    >>> import torch
    >>> missing_dice(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 1.0]]]))
    tensor(0.3333)
    """
    common = (found * true).sum((-2, -1))
    both = (found.square() + true.square()).sum((-2, -1)).clamp_min(1e-6)
    return (1 - 2 * common / both).mean()
