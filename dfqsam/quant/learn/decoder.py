"""The mask decoder taught to read what a quantized encoder gives.

Embeddings of four bits differ from those that the decoder was trained on, and no rounding of the encoder's can help
that. The decoder, which computes in floating point, learns to answer to them what it answers to embeddings of full
precision. Synthetic images are enough for that, and the encoders are asked once about each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed

import torch
from torch import Tensor, nn

from dfqsam.quant.learn.exercises import Draw, Exercise
from dfqsam.quant.learn.fit import rate, restore, state_of
from dfqsam.quant.learn.interaction import answers_loss
from dfqsam.sam.device import quick_in_bfloat16
from dfqsam.sam.prompter import Prompter

CLIP = 1.0  # of the gradient's norm


@dataclass(frozen=True)
class Course:
    """How a decoder learns.

    Attributes:
        steps: of Adam.
        batch: exercises a step.
        rate: largest learning rate, which falls to 0 by a cosine.
        warm: share of the steps in which it rises.
        checks: how often, evenly spread, the held-out exercises are asked whether things got better.
        prompts: an exercise.
    """

    steps: int = 200
    batch: int = 4
    rate: float = 5e-5
    warm: float = 0.1
    checks: int = 4
    prompts: int = 4


LONG_COURSE = Course(steps=640, batch=8, rate=1e-4, checks=6, prompts=8)
"""Where there is a GPU, with new images every step."""


@dataclass(frozen=True)
class Taught:
    """Loss on held-out exercises before and after, and at every check."""

    before: float
    after: float
    curve: tuple[float, ...] = ()


def teach(
    decoder: nn.Module,
    prompter: Prompter,
    draw: Draw,
    held_out: Sequence[Exercise],
    course: Course = Course(),
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> Taught:
    """Teaches ``decoder``, in place; where the held-out exercises never get better, it stays as it was.

    Args:
        decoder: segment_anything's; a copy of that of ``prompter``, which stays as it is.
        draw: makes or chooses so many exercises to learn from.
        held_out: exercises to be judged by, at least one.
        advance: called after every step.
    """
    student = changed(prompter, mask_decoder=decoder)
    parameters = [p for p in decoder.parameters() if p.is_floating_point()]
    wanted, best, done = [p.requires_grad for p in parameters], state_of(parameters), False
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def judged() -> float:
        return sum(float(_loss(student, exercise)) for exercise in held_out) / len(held_out)

    before = least = judged()
    curve: list[float] = []
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(parameters, lr=course.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step / course.steps, course.warm))
    begin = best
    try:
        with torch.enable_grad():
            for step in range(1, course.steps + 1):
                for exercise in draw(course.batch, generator):
                    (_loss(student, exercise) / course.batch).backward()
                torch.nn.utils.clip_grad_norm_(parameters, CLIP)
                optimiser.step()
                schedule.step()
                optimiser.zero_grad(set_to_none=True)
                advance()
                if step % max(1, course.steps // course.checks) == 0:
                    curve.append(judged())
                    if curve[-1] < least:
                        least, best = curve[-1], state_of(parameters)
        done = True
    finally:
        restore(parameters, best if done else begin)
        for parameter, grad in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(grad)
            parameter.grad = None
    return Taught(before, least, tuple(curve))


def _loss(student: Prompter, exercise: Exercise) -> Tensor:
    with torch.autocast(exercise.embedding.device.type, torch.bfloat16, quick_in_bfloat16(exercise.embedding.device)):
        found = student.ask(exercise.embedding.float(), exercise.prompts)
    return answers_loss(found, exercise.masks, exercise.quality)
