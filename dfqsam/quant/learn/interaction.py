"""What random prompts make of an embedding: the term that keeps masks, not only embeddings.

Source: SAQ-SAM (arXiv 2503.06515), prompt-aware reconstruction: the image tokens that the mask decoder has mixed with
the tokens of prompts must stay what they were. Masks are compared too.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dfqsam.sam.prompter import Answers


def prompt_loss(found: Answers, wanted: Answers) -> Tensor:
    """Squared error of the mixed tokens, relative to their spread, and the cross entropy of the masks beyond that of
    the wanted masks with themselves (a Kullback-Leibler divergence of pixels); a scalar."""
    tokens = (found.tokens - wanted.tokens).square().mean() / wanted.tokens.var().clamp_min(1e-12)
    true = wanted.logits.sigmoid()
    divergence = F.binary_cross_entropy_with_logits(found.logits, true)
    own = F.binary_cross_entropy_with_logits(wanted.logits, true)
    return tokens + (divergence - own)
