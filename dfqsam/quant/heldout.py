"""Which calibration images a pass is fitted on, and which it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dfqsam.quant.variety import Endless

# At 256 px; larger inputs take fewer, so that memory stays bounded.
IMAGES = 16  # for passes that compute all of them at once
MANY = 32  # some times as many for those that take one after the other


def _fitting(most: int, batches: Sequence[Tensor]) -> int:
    """How many images of the size of ``batches`` take as much room and time as ``most`` of 256 px, at least two."""
    return max(2, min(most, most * 256**2 // batches[0].shape[-1] ** 2))


def _most(batches: Sequence[Tensor], times: int) -> int:
    return min(times * len(batches), _fitting(times * MANY, batches))


def few(batches: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """The first calibration images (each 1 x 3 x S x S) and how many of them to fit on; the rest, a quarter and at
    least one, is held out. A single image comes back with 0 to fit on: it leaves none to judge by.
    """
    if len(batches) < 2:
        return list(batches), 0
    count = min(len(batches), _fitting(IMAGES, batches))
    return list(batches[:count]), count - max(1, count // 4)


def many(
    batches: Sequence[Tensor],
    pictures: Sequence[Tensor] = (),
    normalise: Callable[[Tensor], Tensor] | None = None,
    times: int = 2,
) -> tuple[list[Tensor], int]:
    """As :func:`few`, more images: those that there are and, where their ``pictures`` are given, others drawn from
    these (:class:`dfqsam.quant.variety.Endless`), ``times`` as many in all. None that is held out was made of a picture
    that is fitted on.

    Args:
        pictures: what ``batches`` were made of, one each, 3 x h x w in [0, 1].
        normalise: from 1 x 3 x h x w in [0, 1] to 1 x 3 x S x S.
        times: at least 1.
    """
    if len(batches) < 2:
        return list(batches), 0
    count = _most(batches, times)
    own = min(len(batches), count)
    judges = max(1, own // 4)
    fit, held = list(batches[: own - judges]), list(batches[own - judges : own])
    if normalise is not None and len(pictures) >= own:
        generator = torch.Generator().manual_seed(0)
        further = count - own
        share = further // 4
        if further - share:
            fit += Endless(pictures[: own - judges], normalise)(further - share, generator).split(1)
        if share:
            held += Endless(pictures[own - judges : own], normalise)(share, generator).split(1)
    return [*fit, *held], len(fit)


def many_are(batches: Sequence[Tensor], pictures: Sequence[Tensor], times: int = 2) -> tuple[int, int]:
    """How many images :func:`many` gives to fit on and how many to judge by where a ``normalise`` is given; none is
    made."""
    if len(batches) < 2:
        return 0, len(batches)
    count = _most(batches, times)
    own = min(len(batches), count)
    further = count - own if len(pictures) >= own else 0
    held = max(1, own // 4) + further // 4
    return own + further - held, held
