"""Calibration images as an encoder gets them, and what enters its sites then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfqsam.progress import stage
from dfqsam.quant.observe import observe
from dfqsam.quant.variety import strained, varied


@dataclass(frozen=True)
class Calibration:
    """What an encoder is quantized with.

    Attributes:
        batches: normalised images, each 1 x 3 x S x S, varied (:func:`dfqsam.quant.variety.varied`).
        samples: by site, rows x channels of what enters it, see :func:`dfqsam.quant.observe.observe`; the extremes are
            those of strained images too (:func:`dfqsam.quant.variety.strained`).
    """

    batches: list[Tensor]
    samples: dict[str, Tensor]


@torch.no_grad()
def calibrate(
    encoder: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    names: list[str],
    pictures: Sequence[Tensor],
    rows: int,
    title: str = "Observing activations",
) -> Calibration:
    """Runs ``encoder`` in full precision on ``pictures`` and on strained ones, with a progress bar.

    Args:
        normalise: from 1 x 3 x h x w in [0, 1] to what the encoder takes.
        names: of its sites; without any nothing is run.
        pictures: each 3 x h x w in [0, 1].
        rows: values kept per site.
    """
    batches = varied([normalise(picture[None]) for picture in pictures])
    if not names:
        return Calibration(batches, {})
    beyond = strained(pictures)
    with stage(title, len(batches) + len(beyond)) as advance:
        further = (normalise(picture[None]) for picture in beyond)
        samples = observe(encoder, names, _counted(batches, advance), len(batches), rows, _counted(further, advance))
    return Calibration(batches, samples)


def _counted(images: Iterable[Tensor], advance: Callable[[], object]) -> Iterator[Tensor]:
    for image in images:
        yield image
        advance()
