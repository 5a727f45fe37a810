"""One entrance to every synthesis method."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dfqsam.config import SynthesisConfig
from dfqsam.sam.model import Sam
from dfqsam.synth.noise import noise
from dfqsam.synth.psaq import psaq
from dfqsam.synth.shapes import shapes


def steps(config: SynthesisConfig) -> int:
    """How often :func:`synthesize` will call ``advance``."""
    return config.steps * -(-config.images // config.batch) if config.method == "psaq" else config.images


def synthesize(sam: Sam, config: SynthesisConfig, advance: Callable[..., object] = lambda *_, **__: None) -> Tensor:
    """config.images x 3 x S x S calibration images in [0, 1], made from the seed and the model alone.

    Args:
        advance: called after every step, with losses by name where there are any.
    """
    size = sam.family.image_size
    if config.method == "psaq":
        return psaq(sam.embed, sam.encoder, sam.sites(), size, config, advance)
    images = {"noise": noise, "shapes": shapes}[config.method](config.images, size, config.seed)
    advance(config.images)
    return images
