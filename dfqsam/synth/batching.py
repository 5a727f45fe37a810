"""Which images of a set are formed together."""

from __future__ import annotations

from collections.abc import Iterator

from dfqsam.config import SynthesisConfig
from dfqsam.sam.model import Sam

MOST_PIXELS = 4 * 512**2  # of a batch, for memory's sake: at 1024 px it is one image


def batch_size(sam: Sam, config: SynthesisConfig) -> int:
    """``config.batch``, or fewer where the inputs of the model are large."""
    return max(1, min(config.batch, MOST_PIXELS // sam.family.image_size**2))


def batches(sam: Sam, config: SynthesisConfig) -> Iterator[slice]:
    """The slices of a set that are formed together."""
    size = batch_size(sam, config)
    for start in range(0, config.images, size):
        yield slice(start, min(start + size, config.images))
