"""Patch-similarity entropy (PSAQ-ViT, Li et al., ECCV 2022, equations 5 to 8) with a differentiable estimator.

Attention answers a picture with tokens that differ between its parts, and noise with tokens that are all alike. The
differential entropy of the cosine similarities between tokens tells the two apart.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

POINTS = 64
TOKENS = 128  # drawn from each grid; their pairs are what the entropy is of
BANDWIDTH = 0.03


def cosine_similarities(tokens: Tensor) -> Tensor:
    """Similarities between different tokens: … x T x C to … x T(T-1)/2, in [-1, 1] (each pair once)."""
    unit = F.normalize(tokens.float(), dim=-1, eps=1e-6)
    rows, columns = torch.triu_indices(tokens.shape[-2], tokens.shape[-2], offset=1)
    return (unit @ unit.transpose(-2, -1))[..., rows, columns]


def differential_entropy(values: Tensor, bandwidth: float = BANDWIDTH, points: int = POINTS) -> Tensor:
    """Entropy in nats of the distribution of ``values`` (… x N, in [-1, 1]); shape …

    A Gaussian kernel density with ``bandwidth``, evaluated at ``points`` positions that reach four bandwidths beyond
    [-1, 1], and integrated by the trapezoid rule.
    """
    reach = 1 + 4 * bandwidth
    at = torch.linspace(-reach, reach, points, device=values.device)
    kernel = torch.exp(-0.5 * ((at[:, None] - values.float()[..., None, :]) / bandwidth) ** 2)
    density = kernel.mean(-1) / (bandwidth * math.sqrt(2 * math.pi))
    return torch.trapezoid(-torch.xlogy(density, density.clamp_min(1e-12)), at, dim=-1)


def patch_similarity_entropy(tokens: list[Tensor], generator: torch.Generator) -> Tensor:
    """Mean entropy over blocks (each B x H x W x C) and images, of ``TOKENS`` tokens drawn at random from each grid."""
    entropies = []
    for grid in tokens:
        flat = grid.flatten(1, 2)
        chosen = torch.randperm(flat.shape[1], generator=generator)[:TOKENS].to(flat.device)
        entropies.append(differential_entropy(cosine_similarities(flat[:, chosen])).mean())
    return torch.stack(entropies).mean()
