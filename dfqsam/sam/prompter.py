"""A mask decoder asked at random places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dfqsam.sam.decode import decode, decode_points

SIDES = (0.08, 0.6)  # of random boxes, in shares of the image's side


@dataclass(frozen=True)
class Answers:
    """For K prompts: mixed image tokens K x E² x 256 and mask logits K x 4E x 4E."""

    tokens: Tensor
    logits: Tensor


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

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Random prompts in pixels: boxes, count x 4, or points, count x 2."""
        place = torch.rand(count, 2, generator=generator) * self.size
        if "box" not in self.kinds:
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

    def ask(self, embedding: Tensor, prompts: Tensor) -> Answers:
        """What the decoder makes of one image; differentiable in ``embedding`` (1 x 256 x E x E)."""
        seen: list[Tensor] = []
        transformer = self.mask_decoder.transformer
        handle = transformer.register_forward_hook(lambda _module, _inputs, output: seen.append(output[1]))
        ask = decode if prompts.shape[1] == 4 else decode_points
        try:
            logits, _ = ask(self.prompt_encoder, self.mask_decoder, embedding, prompts, self.size)
        finally:
            handle.remove()
        return Answers(seen[0], logits)
