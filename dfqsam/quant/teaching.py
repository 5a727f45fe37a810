"""Passes that teach: a student learns from images drawn anew, and from what the full-precision model makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dfqsam.quant.encoder import quantized_layers
from dfqsam.quant.heldout import many, many_are
from dfqsam.quant.learn.decoder import LONG_COURSE, Course, teach
from dfqsam.quant.learn.distill import LONG, Lesson, distill
from dfqsam.quant.learn.exercises import Setter, among
from dfqsam.quant.variety import Endless
from dfqsam.quant.work import Work
from dfqsam.sam.device import computing_on

LESSONS = 4  # times as many images as there are, for a decoder that learns from a list
JUDGES = 8  # pictures, at most, whose images judge a student that learns from new ones every step
IMAGE = 2**16  # bytes a pixel that an image takes on a GPU while it is learned from


def lesson_here(side: int = 256) -> Lesson:
    """How long distillation takes on this machine, where images have ``side`` px."""
    if not torch.cuda.is_available():
        return Lesson()
    free, _ = torch.cuda.mem_get_info()
    return replace(LONG, together=max(1, min(LONG.batch, int(free / (IMAGE * side**2)))))


def course_here() -> Course:
    """How long a decoder learns on this machine."""
    return LONG_COURSE if torch.cuda.is_available() else Course()


def distill_all(work: Work, advance: Callable[[], object]) -> int:
    """The whole encoder taught from its end, and the decoder along with it where there is one to change:
    :mod:`dfqsam.quant.learn.distill`."""
    if work.prompter is None or work.normalise is None or not work.pictures:
        raise ValueError("Distillation asks the mask decoder and makes images; the work lacks prompter or pictures.")
    if len(work.pictures) < 2:
        return 0
    parts = [work.reference, work.encoder, work.prompter.prompt_encoder, work.prompter.mask_decoder]
    with computing_on([*parts, *filter(None, [work.decoder])], tf32=True) as device:
        draw, held_out = _endless(work, device)
        report = distill(
            work.reference,
            work.encoder,
            work.stages,
            draw,
            held_out,
            work.prompter,
            lesson_here(work.batches[0].shape[-1]),
            advance=advance,
            decoder=work.decoder,
        )
    return int(report.after < report.before) * len(quantized_layers(work.encoder))


def teach_decoder(work: Work, advance: Callable[[], object]) -> int:
    """The mask decoder taught to read the embeddings as they are: :mod:`dfqsam.quant.learn.decoder`."""
    if work.prompter is None or work.decoder is None:
        raise ValueError("Teaching the decoder asks one in full precision and changes another; the work lacks one.")
    if len(work.batches) < 2:
        return 0
    prompter, course = work.prompter, course_here()
    parts = [work.reference, work.encoder, prompter.prompt_encoder, prompter.mask_decoder, work.decoder]
    with computing_on(parts, tf32=True) as device:
        setter = Setter(work.reference, work.encoder, prompter, course.prompts)
        generator = torch.Generator().manual_seed(0)
        if _anew(work):
            endless, judging = _endless(work, device)
            draw, held_out = setter.anew(endless), setter.set(judging, generator)
        else:
            images, fit = many(work.batches, work.pictures, work.normalise, LESSONS)
            exercises = setter.set([image.to(device) for image in images], generator, advance)
            draw, held_out = among(exercises[:fit]), exercises[fit:]
        report = teach(work.decoder, prompter, draw, held_out, course, advance=advance)
    return int(report.after < report.before)


def distilling_steps(_work: Work) -> int:
    """How often :func:`distill_all` will call ``advance``, at most."""
    return lesson_here().steps


def teaching_steps(work: Work) -> int:
    """How often :func:`teach_decoder` will call ``advance``."""
    exercises = 0 if _anew(work) else sum(many_are(work.batches, work.pictures, LESSONS))
    return exercises + course_here().steps


def _anew(work: Work) -> bool:
    """Whether exercises are made anew every step; without a GPU that takes far longer than to learn from one."""
    return torch.cuda.is_available() and work.normalise is not None and len(work.pictures) > 1


def _endless(work: Work, device: torch.device) -> tuple[Endless, list[Tensor]]:
    """What draws new images of the pictures, but of those that judge, and images of these."""
    assert work.normalise is not None
    kept = max(1, min(JUDGES, len(work.pictures) // 4))
    pictures = [picture.to(device) for picture in work.pictures]
    judging = Endless(pictures[-kept:], work.normalise)(2 * kept, torch.Generator().manual_seed(1))
    held_out = [*(batch.to(device) for batch in work.batches[-kept:]), *judging.split(1)]
    return Endless(pictures[:-kept], work.normalise), held_out
