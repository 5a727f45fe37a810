"""What a decoder learns from: questions about images, and the answers that full precision gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfqsam.sam.prompter import Prompter


@dataclass(frozen=True)
class Exercise:
    """One image: what the quantized encoder makes of it, and what is to be answered.

    Attributes:
        embedding: 1 x 256 x E x E, in half precision.
        prompts: boxes, K x 4, or points, K x 2, in pixels.
        masks: logits, K x 4 x 4E x 4E, in half precision.
        quality: predicted IoU, K x 4.
    """

    embedding: Tensor
    prompts: Tensor
    masks: Tensor
    quality: Tensor

    @classmethod
    def of(
        cls,
        embedding: Tensor,
        true: Tensor,
        prompter: Prompter,
        prompts: int,
        generator: torch.Generator,
        points: bool = False,
    ) -> Exercise:
        """From both embeddings of an image, the quantized one first.

        Args:
            prompter: asks the decoder in full precision.
            prompts: how many.
            points: ask with points where boxes would do.
        """
        asked, answers = prompter.question(true, prompts, generator, points)
        return cls(embedding.half(), asked, answers.masks.half(), answers.quality)


Draw = Callable[[int, torch.Generator], Sequence[Exercise]]


def among(exercises: Sequence[Exercise]) -> Draw:
    """Draws from so many, any of them again and again."""

    def draw(count: int, generator: torch.Generator) -> list[Exercise]:
        return [exercises[place] for place in torch.randint(len(exercises), (count,), generator=generator).tolist()]

    return draw


@dataclass(frozen=True)
class Setter:
    """Sets exercises about images.

    Attributes:
        reference, encoder: in full precision and quantized.
        prompter: asks the decoder in full precision.
        prompts: an exercise.
    """

    reference: nn.Module
    encoder: nn.Module
    prompter: Prompter
    prompts: int

    @torch.no_grad()
    def set(
        self, images: Sequence[Tensor], generator: torch.Generator, advance: Callable[[], object] = lambda: None
    ) -> list[Exercise]:
        """One about every image of ``images`` (normalised, each B x 3 x S x S; B are embedded at once), calling
        ``advance`` after each B. Every second one asks with points where the model knows them."""
        points, made = "point" in self.prompter.kinds, []
        for batch in images:
            for both in zip(self.encoder(batch).split(1), self.reference(batch).split(1), strict=True):
                asked = points and len(made) % 2 == 1
                made.append(Exercise.of(*both, self.prompter, self.prompts, generator, asked))
            advance()
        return made

    def anew(self, images: Callable[[int, torch.Generator], Tensor]) -> Draw:
        """Sets new exercises every time, about so many new images."""

        def draw(count: int, generator: torch.Generator) -> list[Exercise]:
            return self.set([images(count, generator)], generator)

        return draw
