"""Pseudo-positive label evolution: pseudo masks that grow by what a prior is sure of.

Source: DFQ-SAM (Li, Zhang, Gu; arXiv 2410.01813). Only positives are ever added; nothing marks background. What
differs: regions keep their identity and stay apart, and no proposal is a normal case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from dfqsam.synth.prior import Candidate

AREA_LIMIT = 0.2
COMPONENTS = 2
SAME, COVERED = 0.3, 0.5
"""A candidate speaks of a mask from this IoU on, or from this share of the mask on that it covers."""

Mask = NDArray[np.bool_]


def grow(
    masks: Tensor,
    candidates: Sequence[Sequence[Candidate]],
    area_limit: float = AREA_LIMIT,
    components: int = COMPONENTS,
) -> Tensor:
    """The pseudo masks after one evolution, B x M x S x S bool like ``masks``, which stay as they are.

    The most confident candidates come first. One that speaks of a mask extends it while the mask stays within the
    limit; a mask that is beyond the limit already is replaced by a smaller candidate. One that meets no mask becomes
    a new one where a slot is empty. Pixels of other masks are never taken.

    Args:
        candidates: of each image, S x S masks.
        area_limit: largest area that a mask grows to, as a share of the image.
        components: connected components that a changed mask keeps; those of the old mask first, then the largest.
    """
    grown = masks.cpu().numpy().copy()
    limit = area_limit * grown.shape[2] * grown.shape[3]
    for own, proposed in zip(grown, candidates, strict=True):
        for candidate in sorted(proposed, key=lambda c: -c.confidence):
            _enter(own, candidate.mask.cpu().numpy(), limit, components)
    return torch.from_numpy(grown).to(masks.device)


def _enter(own: Mask, proposal: Mask, limit: float, components: int) -> None:
    """Lets one S x S proposal change the M x S x S masks of its image in place."""
    both = (own & proposal).sum((1, 2))
    if not both.any():
        free = np.flatnonzero(~own.any((1, 2)))
        fresh = _largest(proposal, np.zeros_like(proposal), components)
        if len(free) and 0 < fresh.sum() <= limit:
            own[free[0]] = fresh
        return
    areas = own.sum((1, 2))
    overlap = both / (areas + proposal.sum() - both)
    k = int(overlap.argmax())
    if overlap[k] < SAME:
        k = int((both / np.maximum(areas, 1)).argmax())
        if both[k] < COVERED * areas[k]:
            return
    added = proposal & ~np.delete(own, k, 0).any(0)
    if areas[k] > limit:
        smaller = _largest(added, own[k], components)
        if 0 < smaller.sum() < areas[k]:
            own[k] = smaller
        return
    union = _largest(own[k] | added, own[k], components)
    if union.sum() <= limit:
        own[k] = union


def _largest(mask: Mask, old: Mask, components: int) -> Mask:
    """The connected components (8 neighbours) of ``mask`` that meet ``old``, then the largest others; a few in all."""
    found: Any = ndimage.label(mask, np.ones((3, 3)))
    labels, count = found
    if count <= components:
        return mask
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    meets = np.bincount(labels[old], minlength=count + 1)[1:] > 0
    order = np.lexsort((-areas, ~meets))
    return np.isin(labels, order[:components] + 1)
