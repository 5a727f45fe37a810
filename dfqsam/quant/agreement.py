"""How far the masks of a quantized encoder are those of full precision, asked at random places of synthetic images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfqsam.quant.heldout import few
from dfqsam.quant.variety import strained
from dfqsam.sam.prompter import Prompter

PROMPTS = 8  # of each image
KEPT_OUT = 8  # images


def kept_out(pictures: Sequence[Tensor], seed: int = 1) -> list[Tensor]:
    """Calibration pictures to judge by, strained: those that no pass is fitted on, or all where there are no others.

    Args:
        pictures: each 3 x h x w in [0, 1].
    """
    fitted = len(few([picture[None] for picture in pictures])[0])
    others = pictures[fitted:] or pictures
    return strained(others[-KEPT_OUT:], times=1, seed=seed)


@dataclass(frozen=True)
class Agreement:
    """Masks that an encoder in full precision gives for random prompts; calling it with another encoder compares.

    Attributes:
        prompter: asks the mask decoder.
        batches: normalised images, each 1 x 3 x S x S.
        prompts: of each image.
        masks: of each image, K x H x W bool.
    """

    prompter: Prompter
    batches: list[Tensor]
    prompts: list[Tensor]
    masks: list[Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: nn.Module, prompter: Prompter, batches: Sequence[Tensor], seed: int = 0) -> Agreement:
        generator = torch.Generator().manual_seed(seed)
        prompts = [prompter.draw(PROMPTS, generator) for _ in batches]
        masks = [prompter.ask(encoder(x), p).logits > 0 for x, p in zip(batches, prompts, strict=True)]
        return cls(prompter, list(batches), prompts, masks)

    @torch.no_grad()
    def __call__(self, encoder: nn.Module, prompter: Prompter | None = None) -> float:
        """Mean Dice of the masks of ``encoder`` with those of full precision, 0 to 100; two empty masks agree.

        Args:
            prompter: asks the decoder that reads ``encoder``; None for that of full precision.
        """
        prompter, found = prompter or self.prompter, list[Tensor]()
        for batch, prompts, masks in zip(self.batches, self.prompts, self.masks, strict=True):
            own = prompter.ask(encoder(batch), prompts).logits > 0
            both, sizes = (own & masks).flatten(1).sum(1), own.flatten(1).sum(1) + masks.flatten(1).sum(1)
            found.append(torch.where(sizes > 0, 2 * both / sizes.clamp_min(1), torch.ones(len(sizes))))
        return 100 * float(torch.cat(found).mean())
