"""What passes work on, and what a pass is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from dfqsam.sam.prompter import Prompter
from dfqsam.sam.sites import Site


class Served(Protocol):
    """What a pass needs of a :class:`dfqsam.sam.model.Sam`."""

    encoder: nn.Module

    @property
    def any_resolution(self) -> bool: ...
    @property
    def prompter(self) -> Prompter: ...
    def normalise(self, images: Tensor) -> Tensor: ...
    def sites(self) -> list[Site]: ...
    def units(self) -> list[str]: ...
    def stages(self) -> list[str]: ...


@dataclass(frozen=True)
class Work:
    """What a pass works on; :meth:`of` makes one.

    Attributes:
        reference: the encoder in full precision, left as it is.
        encoder: quantized (:func:`dfqsam.quant.encoder.quantize_encoder`), mended in place.
        sites: of both.
        units: names of their parts that pictures pass one after the other, the neck last.
        stages: names of parts behind which a student's features are compared with its teacher's.
        batches: normalised calibration images, each 1 x 3 x S x S, varied (:func:`dfqsam.quant.variety.varied`).
        pictures: what the batches were made of, each 3 x h x w in [0, 1]; for passes that make further images.
        normalise: from 1 x 3 x h x w in [0, 1] to what the encoder takes.
        any_resolution: whether the encoder takes images of half the side, which are enough to judge ranges by.
        prompter: asks the full-precision decoder; None for passes without a prompt-aware term.
        decoder: what will read the encoder's embeddings, mended in place; None for passes that leave it alone.
        keep: folder for what long passes have finished, so that they go on after a stop; None for nowhere.
    """

    reference: nn.Module
    encoder: nn.Module
    sites: list[Site]
    units: list[str]
    stages: list[str]
    batches: Sequence[Tensor]
    pictures: Sequence[Tensor] = ()
    normalise: Callable[[Tensor], Tensor] | None = None
    any_resolution: bool = False
    prompter: Prompter | None = None
    decoder: nn.Module | None = None
    keep: Path | None = None

    @classmethod
    def of(
        cls,
        sam: Served,
        encoder: nn.Module,
        batches: Sequence[Tensor],
        pictures: Sequence[Tensor] = (),
        decoder: nn.Module | None = None,
        keep: Path | None = None,
    ) -> Work:
        """Of a whole model in full precision, its ``encoder`` once that is quantized, and a copy of its ``decoder``."""
        parts = sam.sites(), sam.units(), sam.stages()
        made_of = batches, pictures, sam.normalise
        return cls(sam.encoder, encoder, *parts, *made_of, sam.any_resolution, sam.prompter, decoder, keep)


class Pass(Protocol):
    """Changes ``work.encoder`` or ``work.decoder`` where held-out images agree, calling ``advance`` after every part;
    returns how many parts it changed."""

    def __call__(self, work: Work, advance: Callable[[], object]) -> int: ...
