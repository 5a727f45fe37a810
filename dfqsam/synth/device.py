"""Where images are formed: on a GPU when there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dfqsam.sam.model import Sam


def device_of(sam: Sam) -> torch.device:
    """Where the encoder is."""
    return next(sam.encoder.parameters()).device


@contextmanager
def on_device(sam: Sam, device: torch.device | None = None) -> Iterator[torch.device]:
    """Moves ``sam`` to ``device`` and back: the first GPU where there is one, by default, else where it is.

    A GPU rounds otherwise than a processor, so that the images of a seed differ between the two.
    """
    home = device_of(sam)
    chosen = device or (torch.device("cuda") if torch.cuda.is_available() else home)
    parts = (sam.encoder, sam.prompt_encoder, sam.mask_decoder)
    try:
        for part in parts:
            part.to(chosen)
        yield chosen
    finally:
        for part in parts:
            part.to(home)
