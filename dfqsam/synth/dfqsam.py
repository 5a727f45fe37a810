"""DFQ-SAM: calibration images formed by the model itself, together with their pseudo masks.

Source: Li, Zhang, Gu, Privacy-Preserving SAM Quantization for Efficient Edge Intelligence in Healthcare
(arXiv 2410.01813), implemented from its maths. What differs, and why: images live in [0, 1] and pass the model's own
preprocessing; the prior that evolves the labels is the model's own decoder (a foreign network is an option); padding
enters no statistic; many images are made, pushed apart by a diversity term; where the encoder remembers batch-norm
statistics, the set has to match them, which is by far the strongest term; most steps run at half the resolution, which
the convolutional encoders take (their statistics hardly change) at a quarter of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqsam.config import SynthesisConfig
from dfqsam.sam.decode import decode
from dfqsam.sam.device import device_of
from dfqsam.sam.model import Sam, scale
from dfqsam.synth import jitter, losses
from dfqsam.synth.checkpointing import checkpointed
from dfqsam.synth.evolution import grow
from dfqsam.synth.layouts import boxes_of, present, random_layouts
from dfqsam.synth.prior import SegmentationPrior
from dfqsam.synth.pyramid import Pyramid, total_variation
from dfqsam.synth.shapes import paint, shapes
from dfqsam.synth.similarity import patch_similarity_entropy
from dfqsam.synth.statistics import MomentTap, SetMoments, distance
from dfqsam.synth.taps import AttentionTap, TokenTap

LEARNING_RATE = 0.1
WARM_UP = 0.1
# Weights of the terms. Where there are batch-norm statistics their gradient has to lead: with ten times the weight for
# segmentation, its gradient was twice theirs in the finest levels, and the statistics stayed at 0.30 in place of 0.11.
SEGMENTATION, ENTROPY, VARIATION, DIVERSITY, STATISTICS, ATTENTION = 0.03, 0.05, 2.0, 0.1, 5.0, 0.1
WEIGHTS = (SEGMENTATION, ENTROPY, VARIATION, DIVERSITY, STATISTICS, ATTENTION)
VARIATION_RANGE = (0.01, 0.05)
EVOLVE_EVERY = 3
FROZEN_AFTER = 0.5  # share of the steps
CHECK_EVERY, PATIENCE = 4, 2
SHOWN = 8


@dataclass
class Batch:
    """One batch while it forms.

    Attributes:
        index: which images of the set it holds.
        masks: B x M x S x S, the pseudo masks.
        targets: B, the total variation that each image is held near.
        snapshots: images, pseudo masks and predicted masks at the start, in the middle and at the end.
    """

    index: slice
    pyramid: Pyramid
    masks: Tensor
    targets: Tensor
    snapshots: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)
    steps: int = 0


class Former:
    """Forms the images of a set, batch after batch.

    Args:
        sam: the model; frozen.
        prior: proposes the regions that labels grow by.
    """

    def __init__(self, sam: Sam, config: SynthesisConfig, prior: SegmentationPrior) -> None:
        self.sam, self.config, self.prior = sam, config, prior
        self.size = sam.family.image_size
        self.device = device_of(sam.encoder)
        known = sam.batch_norm if config.batch_norm else {}
        self.statistics = {name: (mean.to(self.device), dev.to(self.device)) for name, (mean, dev) in known.items()}
        self.moments = SetMoments(config.images)
        self.pooled = torch.zeros(config.images, 256, device=self.device)

    def start(self, index: slice) -> Batch:
        """The images that batch ``index`` begins with, and its random pseudo masks."""
        config, count = self.config, index.stop - index.start
        seed = config.seed * 1_000_003
        masks = torch.cat([random_layouts(1, self.size, seed + i) for i in range(index.start, index.stop)])
        if config.start == "shapes":
            drawn = torch.cat([shapes(1, self.size, seed + i) for i in range(index.start, index.stop)])
            pyramid = Pyramid.around(paint(drawn, masks, seed + index.start))
        else:
            pyramid = Pyramid.random(count, self.size, seed + index.start)
        generator = torch.Generator().manual_seed(seed + 7919 * index.start + 1)
        low, high = VARIATION_RANGE
        targets = low + (high - low) * torch.rand(count, generator=generator)
        return Batch(index, pyramid.to(self.device), masks.to(self.device), targets.to(self.device))

    def embed(self, images: Tensor) -> Tensor:
        """B x 3 x R x R in [0, 1], R the input size or half of it, to embeddings."""
        return self.sam.encoder(scale(images, self.sam.family.preprocessing))

    def form(self, batch: Batch, advance: Callable[..., object]) -> None:
        """Optimises ``batch`` in place, and enters its final moments into those of the set."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + 7919 * batch.index.start + 2)
        optimiser = torch.optim.Adam(batch.pyramid.parameters(), lr=LEARNING_RATE, betas=(0.5, 0.9))
        early = round(config.steps * config.early) if self.sam.any_resolution else 0
        best, waited = (math.inf, batch.pyramid.state_dict()), 0
        self.record(batch)
        for step in range(config.steps):
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * schedule(step, config.steps)
            evolving = config.evolve and step < FROZEN_AFTER * config.steps and step % EVOLVE_EVERY == 0
            terms = self.terms(batch, step, step < early, evolving, generator)
            optimiser.zero_grad()
            terms["loss"].backward()
            optimiser.step()
            batch.losses = {name: float(value.detach()) for name, value in terms.items()}
            batch.steps = step + 1
            advance(**batch.losses)
            if step + 1 == config.steps // 2:
                self.record(batch)
            if self.statistics and ((step + 1) % CHECK_EVERY == 0 or step + 1 == config.steps):
                judged = self.held_out(batch)
                if judged < best[0]:
                    best, waited = (judged, copy_state(batch.pyramid)), 0
                else:
                    waited += 1
                if waited >= PATIENCE:
                    advance(config.steps - step - 1)
                    break
        if self.statistics:
            batch.pyramid.load_state_dict(best[1])
            batch.losses["held_out"] = best[0]
        if len(batch.snapshots) == 1:  # stopped before the middle
            self.record(batch)
        self.record(batch)
        self.settle(batch)

    def terms(
        self, batch: Batch, step: int, half: bool, evolving: bool, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Every term of the objective at this step by name, and their weighted sum as ``loss``."""
        config, sam = self.config, self.sam
        images, masks = batch.pyramid(), batch.masks
        variation = (total_variation(images) - batch.targets).abs().mean()
        if not evolving:  # labels grow on the image as it is
            hardness = (step + 1) / config.steps if config.easy_to_hard else 0.0
            moved = jitter.draw(generator, self.size, self.size // 16, 1 - 0.8 * hardness)
            images, masks = jitter.apply(images, masks, moved)
        if half:
            images = F.interpolate(images, scale_factor=0.5, mode="area")
        with ExitStack() as stack:
            tokens = stack.enter_context(TokenTap(sam.encoder, sam.sites()))
            taps = stack.enter_context(MomentTap(sam.encoder, self.statistics))
            attention = stack.enter_context(AttentionTap(sam.encoder, sam.sites())) if config.attention else None
            stack.enter_context(checkpointed(list(getattr(sam.encoder, "blocks", []))))
            embedding = self.embed(images)
        if evolving:
            batch.masks = masks = self.evolve(batch, images, embedding.detach(), generator)
        pooled = embedding.mean((2, 3))
        known = self.pooled[self.pooled.abs().sum(1) > 0]
        found = {
            "segmentation": self.segmentation(embedding, masks),
            "entropy": patch_similarity_entropy(tokens.tokens, generator),
            "variation": variation,
            "diversity": losses.diversity(pooled, known),
        }
        loss = SEGMENTATION * found["segmentation"] - ENTROPY * found["entropy"]
        loss = loss + VARIATION * variation + DIVERSITY * found["diversity"]
        if self.statistics:
            whole = self.moments.with_batch(batch.index, taps.moments)
            found["statistics"] = distance(whole, self.statistics)
            loss = loss + STATISTICS * found["statistics"]
        if attention is not None:
            found["attention"] = losses.attention_prior(attention, masks.any(1))
            loss = loss + ATTENTION * found["attention"]
        return {"loss": loss, **found}

    def segmentation(self, embedding: Tensor, masks: Tensor) -> Tensor:
        """The decoder asked for every pseudo mask by its box; the mean over images."""
        side = 4 * embedding.shape[-1]
        there, boxes, values = present(masks), boxes_of(masks), []
        for i in range(len(masks)):
            if not bool(there[i].any()):
                continue
            target = F.interpolate(masks[i, there[i]][None].float(), (side, side), mode="area")[0]
            logits, quality = decode(
                self.sam.prompt_encoder, self.sam.mask_decoder, embedding[i : i + 1], boxes[i, there[i]], self.size
            )
            values.append(losses.segmentation(logits, quality, target))
        return torch.stack(values).mean() if values else embedding.sum() * 0

    def evolve(self, batch: Batch, images: Tensor, embedding: Tensor, generator: torch.Generator) -> Tensor:
        """The pseudo masks, grown by what the prior is sure of."""
        with torch.no_grad():
            full = batch.pyramid().detach() if images.shape[-1] != self.size else images.detach()
            return grow(batch.masks, self.prior.propose(full, embedding, batch.masks, generator))

    @torch.no_grad()
    def held_out(self, batch: Batch) -> float:
        """The statistics' distance for the images turned by a quarter, which no step ever sees.

        Pictures of tissue stay pictures when turned; a texture that was fitted to the filters does not, so that this
        rises when the images overfit. It needs no real data.
        """
        turned = F.interpolate(batch.pyramid().rot90(1, (2, 3)), scale_factor=0.5, mode="area")
        if not self.sam.any_resolution:
            turned = batch.pyramid().rot90(1, (2, 3))
        with MomentTap(self.sam.encoder, self.statistics) as tap:
            self.embed(turned)
        return float(distance(self.moments.with_batch(batch.index, tap.moments), self.statistics))

    @torch.no_grad()
    def settle(self, batch: Batch) -> None:
        """Remembers the moments and pooled embeddings of the finished images for the batches to come."""
        images = batch.pyramid()
        if self.sam.any_resolution:
            images = F.interpolate(images, scale_factor=0.5, mode="area")
        with MomentTap(self.sam.encoder, self.statistics) as tap:
            embedding = self.embed(images)
        self.moments.put(batch.index, tap.moments)
        self.pooled[batch.index] = embedding.mean((2, 3))

    @torch.no_grad()
    def record(self, batch: Batch) -> None:
        """A snapshot of the first images of the set, with the masks that the decoder gives now."""
        if batch.index.start >= SHOWN:
            return
        images = batch.pyramid().detach()
        embedding = self.embed(images)
        predicted = torch.zeros_like(batch.masks)
        there, boxes = present(batch.masks), boxes_of(batch.masks)
        for i in range(len(images)):
            if bool(there[i].any()):
                logits, _ = decode(
                    self.sam.prompt_encoder, self.sam.mask_decoder, embedding[i : i + 1], boxes[i, there[i]], self.size
                )
                grown = F.interpolate(logits[None], (self.size, self.size), mode="bilinear", align_corners=False)[0]
                predicted[i, there[i]] = grown > 0
        batch.snapshots.append((images.cpu(), batch.masks.cpu().clone(), predicted.cpu()))


def schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero; in (0, 1].

    >>> [round(schedule(s, 10), 2) for s in (0, 1, 9)]
    [1.0, 0.98, 0.1]
    """
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return max(0.1, 0.5 * (1 + math.cos(math.pi * (step - warm + 1) / steps)))


def copy_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """The module's state as it is now."""
    return {name: value.clone() for name, value in module.state_dict().items()}
