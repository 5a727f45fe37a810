"""What is mended in an encoder once all of it is quantized: passes with one signature, by name, in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.config import PASSES
from dfqsam.progress import stage
from dfqsam.quant.compensate import compensable, compensate
from dfqsam.quant.correction import correct_biases
from dfqsam.quant.depthwise import depthwise_layers, refine_depthwise
from dfqsam.quant.encoder import quantized_layers
from dfqsam.quant.heldout import few, many, many_are
from dfqsam.quant.learn.decoder import PROMPTS, Course, Exercise, teach
from dfqsam.quant.learn.distill import LONG, Lesson, distill
from dfqsam.quant.learn.reconstruct import reconstruct
from dfqsam.quant.refine import refine_ranges, stem_sites
from dfqsam.quant.rounding import round_to_half
from dfqsam.quant.variety import Endless
from dfqsam.sam.device import computing_on
from dfqsam.sam.prompter import Prompter
from dfqsam.sam.sites import Site

REFINED = 4  # images that the stem's ranges are judged on
LESSONS = 4  # times as many images as there are, for the decoder to be taught on
PART = 64  # side, in tokens, of the parts of large grids that blocks are fitted on


class Served(Protocol):
    """What a pass needs of a :class:`dfqsam.sam.model.Sam`."""

    encoder: nn.Module

    @property
    def any_resolution(self) -> bool: ...
    @property
    def prompter(self) -> Prompter: ...
    def normalise(self, images: Tensor) -> Tensor: ...
    def sites(self) -> list[Site]: ...
    def units(self) -> list[str]: ...
    def stages(self) -> list[str]: ...


@dataclass(frozen=True)
class Work:
    """What a pass works on; :meth:`of` makes one.

    Attributes:
        reference: the encoder in full precision, left as it is.
        encoder: quantized (:func:`dfqsam.quant.encoder.quantize_encoder`), mended in place.
        sites: of both.
        units: names of their parts that pictures pass one after the other, the neck last.
        stages: names of parts behind which a student's features are compared with its teacher's.
        batches: normalised calibration images, each 1 x 3 x S x S, varied (:func:`dfqsam.quant.variety.varied`).
        pictures: what the batches were made of, each 3 x h x w in [0, 1]; for passes that make further images.
        normalise: from 1 x 3 x h x w in [0, 1] to what the encoder takes.
        any_resolution: whether the encoder takes images of half the side, which are enough to judge ranges by.
        prompter: asks the full-precision decoder; None for passes without a prompt-aware term.
        decoder: what will read the encoder's embeddings, mended in place; None for passes that leave it alone.
        keep: folder for what long passes have finished, so that they go on after a stop; None for nowhere.
    """

    reference: nn.Module
    encoder: nn.Module
    sites: list[Site]
    units: list[str]
    stages: list[str]
    batches: Sequence[Tensor]
    pictures: Sequence[Tensor] = ()
    normalise: Callable[[Tensor], Tensor] | None = None
    any_resolution: bool = False
    prompter: Prompter | None = None
    decoder: nn.Module | None = None
    keep: Path | None = None

    @classmethod
    def of(
        cls,
        sam: Served,
        encoder: nn.Module,
        batches: Sequence[Tensor],
        pictures: Sequence[Tensor] = (),
        decoder: nn.Module | None = None,
        keep: Path | None = None,
    ) -> Work:
        """Of a whole model in full precision, its ``encoder`` once that is quantized, and a copy of its ``decoder``."""
        parts = sam.sites(), sam.units(), sam.stages()
        made_of = batches, pictures, sam.normalise
        return cls(sam.encoder, encoder, *parts, *made_of, sam.any_resolution, sam.prompter, decoder, keep)


class Pass(Protocol):
    """Changes ``work.encoder`` or ``work.decoder`` where held-out images agree, calling ``advance`` after every part;
    returns how many parts it changed."""

    def __call__(self, work: Work, advance: Callable[[], object]) -> int: ...


def mend(work: Work, names: Sequence[str]) -> dict[str, int]:
    """Runs the passes ``names`` one after the other, each with a progress bar; returns how many parts each changed.
    What they have left in full precision is rounded to half precision at the end."""
    done = {}
    for name in names:
        title, run, parts = _PASSES[name]
        with stage(title, parts(work)) as advance:
            done[name] = run(work, advance)
    round_to_half(work.encoder)
    return done


@torch.no_grad()
def refine_stem(work: Work, advance: Callable[[], object]) -> int:
    """The ranges of a convolutional stem, judged by the embedding: :mod:`dfqsam.quant.refine`."""
    images = torch.cat(list(work.batches[:REFINED]))
    if work.any_resolution:
        images = F.avg_pool2d(images, 2)
    report = refine_ranges(work.reference, work.encoder, stem_sites(work.sites), images, advance)
    return sum(entry.after < entry.before for entry in report.values())


@torch.no_grad()
def refine_filters(work: Work, advance: Callable[[], object]) -> int:
    """Scales of depthwise channels, judged by what the filters make of them: :mod:`dfqsam.quant.depthwise`."""
    images, fit = few(work.batches[: 2 * REFINED])
    if not fit:
        return 0
    report = refine_depthwise(work.reference, work.encoder, images, fit, advance)
    return sum(count > 0 for count in report.values())


@torch.no_grad()
def compensate_weights(work: Work, advance: Callable[[], object]) -> int:
    """Weights refitted and rounded for the inputs as they are: :mod:`dfqsam.quant.compensate`."""
    images, fit = many(work.batches, work.pictures, work.normalise)
    if not fit:
        return 0
    report = compensate(work.reference, work.encoder, work.sites, work.units, images, fit, advance)
    return sum(entry.damping is not None for entry in report.values())


def reconstruct_blocks(work: Work, advance: Callable[[], object]) -> int:
    """Blocks fitted to what they gave: :mod:`dfqsam.quant.learn.reconstruct`."""
    images, fit = few(work.batches)
    if not fit:
        return 0
    report = reconstruct(
        work.reference,
        work.encoder,
        work.units,
        images,
        fit,
        prompter=work.prompter,
        crop=PART if work.any_resolution else None,
        keep=work.keep,
        advance=advance,
    )
    return sum(entry.after < entry.before for entry in report.values())


def lesson_here() -> Lesson:
    """How long distillation takes on this machine."""
    return LONG if torch.cuda.is_available() else Lesson()


def distill_all(work: Work, advance: Callable[[], object]) -> int:
    """The whole encoder taught from its end: :mod:`dfqsam.quant.learn.distill`."""
    if work.prompter is None or work.normalise is None or not work.pictures:
        raise ValueError("Distillation asks the mask decoder and makes images; the work lacks prompter or pictures.")
    if len(work.pictures) < 2:
        return 0
    kept = max(1, len(work.pictures) // 4)
    parts = work.reference, work.encoder, work.prompter.prompt_encoder, work.prompter.mask_decoder
    with computing_on(parts, tf32=True) as device:
        pictures = [picture.to(device) for picture in work.pictures]
        judging = Endless(pictures[-kept:], work.normalise)(2 * kept, torch.Generator().manual_seed(1))
        held_out = [*(batch.to(device) for batch in work.batches[-kept:]), *judging.split(1)]
        report = distill(
            work.reference,
            work.encoder,
            work.stages,
            Endless(pictures[:-kept], work.normalise),
            held_out,
            work.prompter,
            lesson_here(),
            advance=advance,
        )
    return int(report.after < report.before) * _layers(work)


@torch.no_grad()
def teach_decoder(work: Work, advance: Callable[[], object]) -> int:
    """The mask decoder taught to read the embeddings as they are: :mod:`dfqsam.quant.learn.decoder`."""
    if work.prompter is None or work.decoder is None:
        raise ValueError("Teaching the decoder asks one in full precision and changes another; the work lacks one.")
    images, fit = many(work.batches, work.pictures, work.normalise, LESSONS)
    if not fit:
        return 0
    generator, exercises = torch.Generator().manual_seed(0), []
    points = "point" in work.prompter.kinds
    for i, image in enumerate(images):
        both = work.encoder(image), work.reference(image)
        exercises.append(Exercise.of(*both, work.prompter, PROMPTS, generator, points and i % 2 == 1))
        advance()
    report = teach(work.decoder, work.prompter, exercises[:fit], exercises[fit:], Course(), advance=advance)
    return int(report.after < report.before)


@torch.no_grad()
def correct(work: Work, advance: Callable[[], object]) -> int:
    """Mean errors folded into biases: :mod:`dfqsam.quant.correction`."""
    images, fit = few(work.batches)
    if not fit:
        return 0
    report = correct_biases(work.reference, work.encoder, torch.cat(images), fit, advance)
    return sum(entry.kept for entry in report.values())


def _layers(work: Work) -> int:
    return len(quantized_layers(work.encoder))


def _lessons(work: Work) -> int:
    return many_are(work.batches, work.pictures, LESSONS) + Course().steps


def _compensable(work: Work) -> int:
    return len(compensable(quantized_layers(work.encoder), work.sites))


_PASSES: dict[str, tuple[str, Pass, Callable[[Work], int]]] = {
    "ranges": ("Judging ranges by the embedding", refine_stem, lambda work: len(stem_sites(work.sites))),
    "depthwise": ("Judging scales by the filters", refine_filters, lambda work: len(depthwise_layers(work.encoder))),
    "weights": ("Compensating weights", compensate_weights, _compensable),
    "blocks": ("Reconstructing blocks", reconstruct_blocks, lambda work: len(work.units)),
    "distillation": ("Distilling", distill_all, lambda _work: lesson_here().steps),
    "biases": ("Correcting biases", correct, _layers),
    "decoder": ("Teaching the decoder", teach_decoder, _lessons),
}
assert set(_PASSES) == set(PASSES)
