"""What proposes regions while images form: a protocol, and the model itself as the default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqsam.sam.decode import decode
from dfqsam.synth.layouts import boxes_of, present

AREAS = (0.002, 0.30)
"""Range of a proposal's area as a share of the image."""
CONFIDENCE = 0.7
"""Least predicted IoU. SAM's 0.88 was chosen for real pictures; on images that still form, few masks reach it."""
STABILITY, OFFSET = 0.85, 1.0
"""Least IoU of the masks at logits +OFFSET and -OFFSET, SAM's stability score (0.92 to 0.95 for real pictures)."""
FACTORS = (0.8, 1.6)
"""Range of the size of an asked box, relative to the box of the current mask."""
SHIFT = 0.1
"""Largest shift of an asked box, as a share of its sides."""
RANDOM_SIDES = (0.1, 0.5)
"""Range of the sides of random boxes, as a share of the image's side."""
PER_MASK, RANDOM = 2, 2


@dataclass(frozen=True)
class Candidate:
    """A proposed region.

    Attributes:
        mask: S x S bool.
        confidence: 0 to 1.
        name: what the prior takes it for, if it knows.
    """

    mask: Tensor
    confidence: float
    name: str | None = None


class SegmentationPrior(Protocol):
    """Proposes regions for images that form."""

    def describe(self) -> dict[str, Any]:
        """What the prior is, for the provenance of the images; JSON-able, with the ``kind``."""
        ...

    def propose(
        self, images: Tensor, embeddings: Tensor | None, masks: Tensor, generator: torch.Generator
    ) -> list[list[Candidate]]:
        """Regions of every image; an empty list where nothing is sure.

        Args:
            images: B x 3 x S x S in [0, 1].
            embeddings: B x 256 x E x E where the caller has them.
            masks: B x M x S x S bool, the current pseudo masks.
            generator: every random draw comes from it.
        """
        ...


class SAMSelfPrior:
    """The model's own decoder, asked near the current masks and at random places; uses no other network and no data.

    Args:
        prompt_encoder, mask_decoder: segment_anything's modules.
        kinds: kinds of prompts that the model was trained on; ``box`` and ``point`` are used.
        size: side S of the images.
    """

    def __init__(
        self, prompt_encoder: Any, mask_decoder: Any, kinds: Sequence[str] = ("box",), size: int = 1024
    ) -> None:
        self.prompt_encoder, self.mask_decoder, self.size = prompt_encoder, mask_decoder, size
        self.kinds = tuple(kind for kind in ("box", "point") if kind in kinds)

    def describe(self) -> dict[str, Any]:
        return {"kind": "self", "prompts": list(self.kinds)}

    @torch.no_grad()
    def propose(
        self, images: Tensor, embeddings: Tensor | None, masks: Tensor, generator: torch.Generator
    ) -> list[list[Candidate]]:
        """See :class:`SegmentationPrior`; needs the embeddings."""
        if embeddings is None:
            raise ValueError("The model's own prior reads embeddings, and none were given.")
        found: list[list[Candidate]] = []
        for embedding, own in zip(embeddings[:, None], masks, strict=True):
            current, candidates = own[present(own[None])[0]], []
            if "box" in self.kinds:
                boxes = asked_boxes(current, self.size, generator).to(embedding.device)
                answer = decode(self.prompt_encoder, self.mask_decoder, embedding, boxes, self.size)
                candidates += sure(*answer, self.size)
            if "point" in self.kinds and len(current):
                points = asked_points(current, generator).to(embedding.device)
                answer = decode(self.prompt_encoder, self.mask_decoder, embedding, points, self.size)
                candidates += sure(*answer, self.size)
            found.append(candidates)
        return found


def asked_boxes(masks: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Boxes around K x S x S masks, PER_MASK each, resized and moved at random, and RANDOM others: Q x 4 in pixels."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    boxes = boxes_of(masks[None])[0].cpu().repeat(PER_MASK, 1)
    centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2] + 1
    centre = centre + sides * uniform(-SHIFT, SHIFT, len(boxes), 2)
    sides = sides * uniform(*FACTORS, len(boxes), 1)
    centre = torch.cat([centre, size * uniform(0.1, 0.9, RANDOM, 2)])
    sides = torch.cat([sides, size * uniform(*RANDOM_SIDES, RANDOM, 2)])
    return torch.cat([centre - sides / 2, centre + sides / 2], 1).clamp(0, size - 1)


def asked_points(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels of K x S x S masks, none of them empty, PER_MASK each: Q x 2 float, x, y."""
    points = []
    for mask in masks.cpu():
        inside = mask.nonzero().flip(1)
        points.append(inside[torch.randint(len(inside), (PER_MASK,), generator=generator)])
    return torch.cat(points).float()


def sure(logits: Tensor, quality: Tensor, size: int) -> list[Candidate]:
    """The masks of K x h x w logits with predicted IoU K that are confident, stable and of a fitting area."""
    grown = F.interpolate(logits[None], (size, size), mode="bilinear", align_corners=False)[0]
    inner, outer = (grown > OFFSET).sum((1, 2)), (grown > -OFFSET).sum((1, 2))
    stable = inner >= STABILITY * outer.clamp_min(1)
    shown = grown > 0
    kept = stable & (quality >= CONFIDENCE)
    return [
        Candidate(shown[k], min(float(quality[k]), 1.0)) for k in kept.nonzero()[:, 0].tolist() if fitting(shown[k])
    ]


def fitting(mask: Tensor) -> bool:
    """Whether the area of an H x W mask lies within AREAS."""
    low, high = AREAS
    return low <= float(mask.float().mean()) <= high
