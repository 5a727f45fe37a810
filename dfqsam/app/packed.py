"""Answers of a model, kept at a bit a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfqsam.app.models import Answer


@dataclass(frozen=True)
class Packed:
    """A mask at a bit a pixel, with its times."""

    bits: NDArray[np.uint8]
    shape: tuple[int, int]
    encoder: float
    decoder: float

    @classmethod
    def of(cls, answer: Answer) -> Packed:
        """The answer, packed."""
        height, width = answer.mask.shape
        return cls(np.packbits(answer.mask), (height, width), answer.encoder, answer.decoder)

    def answer(self) -> Answer:
        """The answer, unpacked."""
        flat = np.unpackbits(self.bits, count=self.shape[0] * self.shape[1])
        return Answer(flat.reshape(self.shape).astype(bool), self.encoder, self.decoder)
