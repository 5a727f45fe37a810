"""Distillation: all codes, steps, scales and biases of an encoder learned together, from the end.

The student keeps its teacher's attention and features behind every stage (AKT, arXiv 2412.19125, has the attention),
its embedding, and what random prompts make of that. Every step draws new images: the calibration images, strained
(:mod:`dfqsam.quant.variety`), so that few of them do for thousands of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed

import torch
from torch import Tensor, nn

from dfqsam.quant.learn.attention import attention_losses, teach
from dfqsam.quant.learn.fit import (
    Learning,
    floats_of,
    groups_of,
    parameters_of,
    rate,
    restore,
    state_of,
    stretches_of,
)
from dfqsam.quant.learn.interaction import answers_loss, prompt_loss
from dfqsam.quant.learn.layers import learning
from dfqsam.quant.learn.taps import Taps
from dfqsam.sam.prompter import Answers, Prompter

CLIP = 1.0  # of the gradient's norm, which low bits make jump (AKT, section 3)


@dataclass(frozen=True)
class Lesson(Learning):
    """How long and what for; see :class:`Learning`.

    Attributes:
        scales: learning rate of the logarithms of weight scales.
        floats: learning rate of what is not quantized (norms, float kernels), in units of its root mean square.
        decoder: learning rate of a mask decoder that learns along.
        together: images that are computed at once; a batch of more is accumulated.
        warm: share of the steps in which the rates rise from 0.
        spatial, channel, features, embedding, masks: weights of the terms.
        prompts: an image (:meth:`dfqsam.sam.prompter.Prompter.question`).
        asked: images a step that prompts are asked about.
        patience: checks without a better state after which it is enough.
    """

    steps: int = 120
    batch: int = 2
    codes: float = 3e-3
    ranges: float = 1e-3
    biases: float = 1e-3
    checks: int = 6
    scales: float = 2e-4
    floats: float = 2e-4
    decoder: float = 5e-5
    together: int = 1
    warm: float = 0.05
    spatial: float = 0.1
    channel: float = 0.1
    features: float = 0.25
    embedding: float = 1.0
    masks: float = 0.1
    prompts: int = 4
    asked: int = 2
    patience: int = 3


LONG = Lesson(
    steps=600,
    batch=8,
    together=8,
    asked=8,
    checks=6,
    patience=6,
    codes=4e-3,
    ranges=2e-3,
    biases=2e-3,
    scales=5e-4,
    floats=5e-4,
    masks=1.0,
    prompts=8,
    decoder=1e-4,
)
"""Where there is a GPU: a step of LiteMedSAM takes 31 GB, and a second on an H200 that teaches two more at once."""


@dataclass(frozen=True)
class Distillation:
    """Loss on held-out images before and after, steps taken, the largest norm of a gradient on the way, and the loss
    on held-out images at every check."""

    before: float
    after: float
    steps: int
    gradient: float
    curve: tuple[float, ...] = ()


def distill(
    reference: nn.Module,
    encoder: nn.Module,
    stages: Sequence[str],
    draw: Callable[[int, torch.Generator], Tensor],
    held_out: Sequence[Tensor],
    prompter: Prompter,
    lesson: Lesson = Lesson(),
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
    decoder: nn.Module | None = None,
) -> Distillation:
    """Learns the quantized modules of ``encoder`` and what it keeps in float, in place; where nothing helps the
    held-out images, all stays as it was.

    Args:
        reference: the teacher, in full precision.
        stages: modules of both behind which features are compared.
        draw: makes so many normalised images (B x 3 x S x S) to learn from.
        held_out: normalised images that judge, each 1 x 3 x S x S.
        prompter: asks the full-precision decoder.
        advance: called after every step.
        decoder: a copy of that of ``prompter``, which learns along, in place, to read what the encoder gives; None for
            masks that the full-precision decoder makes.
    """
    generator = torch.Generator().manual_seed(seed)
    largest, taken, curve = 0.0, 0, []
    floats, own = (
        [p for p in part.parameters() if p.is_floating_point()] for part in (encoder, decoder or nn.Module())
    )
    kept = [*floats, *own]
    wanted, done = [p.requires_grad for p in kept], False
    with learning(encoder) as learned, torch.enable_grad(), Taps(encoder, stages) as taps:
        school = _School(reference, encoder, stages, prompter, lesson, taps, decoder)
        begin = state_of(kept)
        parameters = [*parameters_of(learned), *kept]
        for parameter in kept:
            parameter.requires_grad_(True)
        groups = [*groups_of(learned, lesson), *stretches_of(learned, lesson.scales), *floats_of(floats, lesson.floats)]
        groups.append({"params": own, "lr": lesson.decoder})
        optimiser = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step / lesson.steps, lesson.warm))

        @torch.no_grad()
        def judged() -> float:
            again = torch.Generator().manual_seed(seed + 1)  # the same prompts every time
            return sum(float(school.loss(image, again, 1)) for image in held_out) / len(held_out)

        try:
            before = least = judged()
            best, stale = state_of(parameters), 0
            for taken in range(1, lesson.steps + 1):
                images = draw(lesson.batch, generator)
                asked = lesson.asked
                for part in images.split(lesson.together):
                    share = len(part) / len(images)
                    (school.loss(part, generator, min(asked, len(part))) * share).backward()
                    asked = max(0, asked - len(part))
                largest = max(largest, float(torch.nn.utils.clip_grad_norm_(parameters, CLIP)))
                optimiser.step()
                schedule.step()
                optimiser.zero_grad(set_to_none=True)
                advance()
                if taken % max(1, lesson.steps // lesson.checks) == 0:
                    now, stale = judged(), stale + 1
                    curve.append(now)
                    if now < least:
                        least, best, stale = now, state_of(parameters), 0
                    if stale >= lesson.patience:
                        break
            restore(parameters, best)
            done = True
        finally:
            if not done:
                restore(kept, begin)
            for parameter, grad in zip(kept, wanted, strict=True):
                parameter.requires_grad_(grad)
                parameter.grad = None
    return Distillation(before, least, taken, largest, tuple(curve))


@dataclass(frozen=True)
class _School:
    """What a student is asked for."""

    reference: nn.Module
    encoder: nn.Module
    stages: Sequence[str]
    prompter: Prompter
    lesson: Lesson
    taps: Taps
    decoder: nn.Module | None = None

    def loss(self, images: Tensor, generator: torch.Generator, asked: int) -> Tensor:
        """Of normalised images (B x 3 x S x S), the first ``asked`` of which are asked about with prompts."""
        lesson = self.lesson
        with torch.no_grad(), Taps(self.reference, self.stages) as teacher:
            true = self.reference(images)
        found = self.encoder(images)
        total = lesson.embedding * (found - true).square().mean() / true.var()
        for name in self.stages:
            seen, wanted = self.taps.seen[name], teacher.seen[name]
            term = lesson.features * (seen - wanted).square().mean() / wanted.var()
            if lesson.spatial or lesson.channel:
                spatial, channel = attention_losses(seen, teach(wanted))
                term = term + lesson.spatial * spatial + lesson.channel * channel
            total = total + term / len(self.stages)
        if not lesson.masks:
            return total
        for i in range(asked):
            prompts, answers = self.prompter.question(true[i : i + 1], lesson.prompts, generator)
            total = total + lesson.masks * self._missed(found[i : i + 1], prompts, answers) / asked
        return total

    def _missed(self, embedding: Tensor, prompts: Tensor, answers: Answers) -> Tensor:
        if self.decoder is None:
            return prompt_loss(self.prompter.ask(embedding, prompts), answers)
        student = changed(self.prompter, mask_decoder=self.decoder)
        return answers_loss(student.ask(embedding, prompts), answers.masks, answers.quality)
