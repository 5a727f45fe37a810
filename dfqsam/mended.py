"""A copy of a model whose encoder is quantized and mended, before anything of it is exported."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dfqsam.config import QuantConfig
from dfqsam.progress import stage
from dfqsam.quant.calibration import Calibration, calibrate
from dfqsam.quant.encoder import quantizable, quantize_encoder
from dfqsam.quant.passes import mend
from dfqsam.quant.work import Work
from dfqsam.sam.model import Sam


@dataclass(frozen=True)
class Mended:
    """What :func:`mended` makes.

    Attributes:
        sam: with a quantized encoder, and a mask decoder that a pass may have changed.
        config: what was asked for.
        batches: the calibration images as the encoder gets them, each 1 x 3 x S x S.
        changed: by pass, how many parts it changed.
    """

    sam: Sam
    config: QuantConfig
    batches: list[Tensor]
    changed: dict[str, int]


@torch.no_grad()
def mended(
    sam: Sam,
    pictures: Sequence[Tensor],
    config: QuantConfig,
    seen: Calibration | None = None,
    work: Path | None = None,
    title: str = "Quantizing the encoder",
) -> Mended:
    """Observes, quantizes and mends, with progress bars; ``sam`` itself is left as it is.

    Args:
        pictures: calibration images, each 3 x h x w in [0, 1].
        seen: what these have shown of all sites that ``config`` quantizes; None to observe them.
        work: folder where long passes keep what they have finished; None for nowhere.
    """
    names = [site.name for site in quantizable(sam.sites(), config)]
    if seen is None:
        watched = names if config.block is None else []
        seen = calibrate(sam.encoder, sam.normalise, watched, pictures, config.rows)
    own, batches = copy.deepcopy(sam), seen.batches
    with stage(title, len(names)) as advance:
        quantize_encoder(own.encoder, sam.sites(), batches, len(batches), config, advance, seen.samples)
    changed = mend(Work.of(sam, own.encoder, batches, pictures, own.mask_decoder, work), config.passes)
    return Mended(own, config, batches, changed)
