"""LiteMedSAM as a teacher: its mask logits for any picture and any box. It was not trained on clicks, and is not asked
with any."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from dfqsam.errors import InputError
from dfqsam.sam.device import quick_in_bfloat16
from dfqsam.sam.model import load_sam
from dfqsam.sam.reference.answers import answer, enlarged, prompt_of


class Teacher(nn.Module):
    """A SAM of 256 px that knows boxes, frozen."""

    def __init__(self, checkpoint: Path) -> None:
        """
        Raises:
            CheckpointError: as :func:`load_sam`.
            InputError: for a SAM of another side.
        """
        super().__init__()
        sam = load_sam(checkpoint)
        if sam.family.image_size != 256:
            raise InputError(f"{sam.family.title} takes pictures of {sam.family.image_size} px; the teacher needs 256.")
        self.encoder, self.prompt_encoder, self.mask_decoder = sam.encoder, sam.prompt_encoder, sam.mask_decoder
        self.stretches = sam.family.preprocessing.kind == "minmax"
        if not self.stretches:
            raise InputError(f"{sam.family.title} is no teacher; give a checkpoint of LiteMedSAM.")

    @torch.no_grad()
    def embedding(self, images: Tensor, valid: Tensor) -> Tensor:
        """B x 256 x 64 x 64 of what :meth:`logits` takes."""
        with torch.autocast(images.device.type, torch.bfloat16, quick_in_bfloat16(images.device)):
            return self.encoder(stretched(images, valid)).float()

    @torch.no_grad()
    def logits(self, images: Tensor, valid: Tensor, boxes: Tensor, side: int = 256) -> Tensor:
        """
        Args:
            images: B x 3 x 256 x 256 in [0, 1].
            valid: B x 1 x 256 x 256 bool, false where a picture is padded.
            boxes: B x M x 4, x0, y0, x1, y1 in pixels.
            side: of the masks.

        Returns:
            B M x ``side`` x ``side``.
        """
        count = boxes.shape[1]
        embedding = self.encoder(stretched(images, valid)).repeat_interleave(count, 0)
        found, _ = answer(self.prompt_encoder, self.mask_decoder, embedding, *prompt_of(boxes.flatten(0, 1)))
        return enlarged(found, side)


def stretched(images: Tensor, valid: Tensor) -> Tensor:
    """Each picture's own smallest and largest value to 0 and 1, and zeros where it is padded."""
    low = images.masked_fill(~valid, torch.inf).amin((1, 2, 3), keepdim=True)
    high = images.masked_fill(~valid, -torch.inf).amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-8) * valid
