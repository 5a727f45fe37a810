"""Distillation: all steps, biases and codes of an encoder learned together, from the end.

The student keeps its teacher's attention behind every stage (AKT, arXiv 2412.19125), its embedding, and what random
prompts make of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfqsam.quant.learn.attention import Attention, attention_losses, teach
from dfqsam.quant.learn.fit import Learning, optimiser_of, restore, state_of
from dfqsam.quant.learn.interaction import prompt_loss
from dfqsam.quant.learn.layers import learning
from dfqsam.sam.prompter import Prompter

CLIP = 1.0  # of the gradient's norm, which low bits make jump (AKT, section 3)


@dataclass(frozen=True)
class Lesson(Learning):
    """How long and what for; see :class:`Learning`, whose batch is accumulated image by image.

    Attributes:
        spatial, channel, embedding, masks: weights of the terms.
        prompts: random prompts an image.
        patience: checks without a better state after which it is enough.
    """

    steps: int = 120
    batch: int = 2
    codes: float = 3e-3
    ranges: float = 1e-3
    biases: float = 1e-3
    checks: int = 6
    spatial: float = 1.0
    channel: float = 1.0
    embedding: float = 1.0
    masks: float = 1.0
    prompts: int = 4
    patience: int = 3


@dataclass(frozen=True)
class Distillation:
    """Loss on held-out images before and after, steps taken, and the largest norm of a gradient on the way."""

    before: float
    after: float
    steps: int
    gradient: float


@dataclass(frozen=True)
class _Truth:
    """Of one image: the teacher's embedding, and its attention behind every stage."""

    embedding: Tensor
    attention: dict[str, Attention]


def distill(
    reference: nn.Module,
    encoder: nn.Module,
    stages: Sequence[str],
    batches: Sequence[Tensor],
    fit: int,
    prompter: Prompter,
    lesson: Lesson = Lesson(),
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> Distillation:
    """Learns the quantized modules of ``encoder``, in place; where nothing helps the held-out images, it stays.

    Args:
        reference: the teacher, in full precision.
        stages: modules of both behind which attention is compared.
        batches: normalised images, each 1 x 3 x S x S; the first ``fit`` are learned from, the others judge.
        prompter: asks the full-precision decoder.
        advance: called after every step.
    """
    with torch.no_grad(), _Taps(reference, stages) as taps:
        truths = []
        for batch in batches:
            embedding = reference(batch)
            truths.append(_Truth(embedding, {name: teach(taps.seen[name][0]) for name in stages}))
    generator = torch.Generator().manual_seed(seed)
    largest, taken = 0.0, 0
    with learning(encoder) as learned, torch.enable_grad(), _Taps(encoder, stages) as taps:

        def loss(i: int, draw: torch.Generator) -> Tensor:
            embedding, truth = encoder(batches[i]), truths[i]
            wrong = (embedding - truth.embedding).square().mean() / truth.embedding.var()
            total = lesson.embedding * wrong
            for name in stages:
                spatial, channel = attention_losses(taps.seen[name][0], truth.attention[name])
                total = total + (lesson.spatial * spatial + lesson.channel * channel) / len(stages)
            prompts = prompter.draw(lesson.prompts, draw).to(embedding.device)
            with torch.no_grad():
                wanted = prompter.ask(truth.embedding, prompts)
            return total + lesson.masks * prompt_loss(prompter.ask(embedding, prompts), wanted)

        @torch.no_grad()
        def held_out() -> float:
            draw = torch.Generator().manual_seed(seed + 1)  # the same prompts every time
            return sum(float(loss(i, draw)) for i in range(fit, len(batches))) / (len(batches) - fit)

        optimiser = optimiser_of(learned, lesson)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, lesson.steps)
        before = least = held_out()
        best, stale = state_of(learned), 0
        for taken in range(1, lesson.steps + 1):
            for i in torch.randint(fit, (lesson.batch,), generator=generator).tolist():
                (loss(i, generator) / lesson.batch).backward()
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            largest = max(largest, float(torch.nn.utils.clip_grad_norm_(parameters, CLIP)))
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            advance()
            if taken % max(1, lesson.steps // lesson.checks) == 0:
                now, stale = held_out(), stale + 1
                if now < least:
                    least, best, stale = now, state_of(learned), 0
                if stale >= lesson.patience:
                    break
        restore(learned, best)
    return Distillation(before, least, taken, largest)


class _Taps:
    """What modules gave last, by name, for as long as the block runs."""

    def __init__(self, encoder: nn.Module, names: Sequence[str]) -> None:
        self.encoder, self.names = encoder, names
        self.seen: dict[str, Tensor] = {}

    def __enter__(self) -> _Taps:
        self.handles = [self.encoder.get_submodule(n).register_forward_hook(self._hook(n)) for n in self.names]
        return self

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.seen[name] = output

        return hook

    def __exit__(self, *_error: object) -> None:
        for handle in self.handles:
            handle.remove()
