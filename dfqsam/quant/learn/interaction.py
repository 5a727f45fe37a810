"""What random prompts make of an embedding: the term that keeps masks, not only embeddings.

Source: SAQ-SAM (arXiv 2503.06515), prompt-aware reconstruction: the image tokens that the mask decoder has mixed with
the tokens of prompts must stay what they were. Masks are compared too.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dfqsam.sam.prompter import Answers


def prompt_loss(found: Answers, wanted: Answers) -> Tensor:
    """How far answers are from what was wanted; a scalar, at least 0.

    The squared error of the mixed tokens relative to their spread, the cross entropy of the masks beyond that of the
    wanted masks with themselves (a Kullback-Leibler divergence of pixels), and what is missing of their Dice: small
    masks count as much as large ones there, and Dice is what users compare.
    """
    tokens = (found.tokens - wanted.tokens).square().mean() / wanted.tokens.var().clamp_min(1e-12)
    true = wanted.logits.sigmoid()
    divergence = F.binary_cross_entropy_with_logits(found.logits, true)
    own = F.binary_cross_entropy_with_logits(wanted.logits, true)
    return tokens + (divergence - own) + missing_dice(found.logits.sigmoid(), true)


def missing_dice(found: Tensor, true: Tensor) -> Tensor:
    """1 - Dice of soft masks in [0, 1] (… x H x W), the mean over all; 0 where they are equal.

    >>> import torch
    >>> missing_dice(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 1.0]]]))
    tensor(0.3333)
    """
    common = (found * true).sum((-2, -1))
    both = (found.square() + true.square()).sum((-2, -1)).clamp_min(1e-6)
    return (1 - 2 * common / both).mean()
