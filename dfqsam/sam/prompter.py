"""A mask decoder asked at random places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dfqsam.sam.decode import decode_all

SIDES = (0.08, 0.6)  # of random boxes, in shares of the image's side


@dataclass(frozen=True)
class Answers:
    """For K prompts.

    Attributes:
        tokens: mixed image tokens, K x E² x 256.
        masks: logits, K x 4 x 4E x 4E: the single mask, then whole, part and sub-part.
        quality: predicted IoU of these, K x 4.
    """

    tokens: Tensor
    masks: Tensor
    quality: Tensor

    @property
    def logits(self) -> Tensor:
        """Of the single mask, K x 4E x 4E."""
        return self.masks[:, 0]


@dataclass(frozen=True)
class Prompter:
    """The full-precision prompt encoder and mask decoder of a SAM, asked at random places.

    Attributes:
        prompt_encoder, mask_decoder: segment_anything's modules.
        kinds: kinds of prompts that the model was trained on; boxes where it knows them, points where not.
        size: side of the images in pixels.
    """

    prompt_encoder: Any
    mask_decoder: Any
    kinds: tuple[str, ...]
    size: int

    def draw(self, count: int, generator: torch.Generator, points: bool = False) -> Tensor:
        """Random prompts in pixels: boxes, count x 4, or points, count x 2, where these are asked for or the model
        knows no boxes."""
        place = torch.rand(count, 2, generator=generator) * self.size
        if points or "box" not in self.kinds:
            return place
        low, high = SIDES
        sides = (low + (high - low) * torch.rand(count, 2, generator=generator)) * self.size
        return torch.cat([place - sides / 2, place + sides / 2], 1).clamp(0, self.size - 1)

    def around(self, answers: Answers) -> Tensor:
        """Boxes just around the masks of ``answers``, in pixels: K x 4, or less where a mask is empty; none for models
        that know no boxes. What users draw is such a box, and no random one."""
        masks = answers.logits > 0
        if "box" not in self.kinds:
            return answers.logits.new_zeros(0, 4)
        masks = masks[masks.flatten(1).any(1)]
        step, ends = self.size / masks.shape[-1], []
        for axis in (1, 2):  # rows that are seen along the columns, then columns along the rows
            seen = masks.any(axis)
            count = torch.arange(seen.shape[1], device=seen.device)
            first = torch.where(seen, count, seen.shape[1]).amin(1) if len(seen) else count[:0]
            last = torch.where(seen, count, -1).amax(1) if len(seen) else count[:0]
            ends.append((first * step, (last + 1) * step - 1))
        (x0, x1), (y0, y1) = ends
        return torch.stack([x0, y0, x1, y1], 1).to(answers.logits.dtype)

    @torch.no_grad()
    def question(
        self, embedding: Tensor, count: int, generator: torch.Generator, points: bool = False
    ) -> tuple[Tensor, Answers]:
        """Prompts for one image and the answers to them: random ones; of boxes, up to three in four are those around
        what random ones show."""
        prompts = self.draw(count, generator, points).to(embedding.device)
        answers = self.ask(embedding, prompts)
        tight = self.around(answers)[: count * 3 // 4] if prompts.shape[1] == 4 else prompts[:0]
        if not len(tight):
            return prompts, answers
        prompts = torch.cat([tight, prompts[len(tight) :]])
        return prompts, self.ask(embedding, prompts)

    def ask(self, embedding: Tensor, prompts: Tensor) -> Answers:
        """What the decoder makes of one image; differentiable in ``embedding`` (1 x 256 x E x E)."""
        seen: list[Tensor] = []
        transformer = self.mask_decoder.transformer
        handle = transformer.register_forward_hook(lambda _module, _inputs, output: seen.append(output[1]))
        try:
            masks, quality = decode_all(self.prompt_encoder, self.mask_decoder, embedding, prompts, self.size)
        finally:
            handle.remove()
        return Answers(seen[0], masks, quality)
