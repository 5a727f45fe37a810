"""What is mended in an encoder once all of it is quantized: passes with one signature, by name, in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from dfqsam.config import PASSES
from dfqsam.progress import stage
from dfqsam.quant.compensate import compensable, compensate
from dfqsam.quant.correction import correct_biases
from dfqsam.quant.depthwise import depthwise_layers, refine_depthwise
from dfqsam.quant.encoder import quantized_layers
from dfqsam.quant.heldout import few, many
from dfqsam.quant.learn.reconstruct import reconstruct
from dfqsam.quant.refine import refine_ranges, stem_sites
from dfqsam.quant.rounding import round_to_half
from dfqsam.quant.teaching import distill_all, distilling_steps, teach_decoder, teaching_steps
from dfqsam.quant.work import Pass, Work
from dfqsam.sam.device import computing_on

REFINED = 4  # images that the stem's ranges are judged on
PART = 64  # side, in tokens, of the parts of large grids that blocks are fitted on


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
    prompter = work.prompter
    asked = [] if prompter is None else [prompter.prompt_encoder, prompter.mask_decoder]
    with computing_on([work.reference, work.encoder, *asked], tf32=True) as device:
        report = reconstruct(
            work.reference,
            work.encoder,
            work.units,
            [image.to(device) for image in images],
            fit,
            prompter=prompter,
            crop=PART if work.any_resolution else None,
            keep=work.keep,
            advance=advance,
        )
    return sum(entry.after < entry.before for entry in report.values())


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


def _compensable(work: Work) -> int:
    return len(compensable(quantized_layers(work.encoder), work.sites))


_PASSES: dict[str, tuple[str, Pass, Callable[[Work], int]]] = {
    "ranges": ("Judging ranges by the embedding", refine_stem, lambda work: len(stem_sites(work.sites))),
    "depthwise": ("Judging scales by the filters", refine_filters, lambda work: len(depthwise_layers(work.encoder))),
    "weights": ("Compensating weights", compensate_weights, _compensable),
    "blocks": ("Reconstructing blocks", reconstruct_blocks, lambda work: len(work.units)),
    "distillation": ("Distilling", distill_all, distilling_steps),
    "biases": ("Correcting biases", correct, _layers),
    "decoder": ("Teaching the decoder", teach_decoder, teaching_steps),
}
assert set(_PASSES) == set(PASSES)
