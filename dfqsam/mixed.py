"""Which layers keep eight bits: as many as a size allows, or as few as an agreement of masks needs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dfqsam.config import QuantConfig
from dfqsam.errors import InputError
from dfqsam.export.graphs import EncoderGraph
from dfqsam.export.trace import export_encoder
from dfqsam.mended import Mended, mended
from dfqsam.progress import stage
from dfqsam.quant.agreement import Agreement, kept_out
from dfqsam.quant.allocate import allocate
from dfqsam.quant.budget import CHOICES, sizes, weight_errors
from dfqsam.quant.calibration import calibrate
from dfqsam.quant.encoder import quantizable, quantize_encoder
from dfqsam.quant.variety import varied
from dfqsam.sam.model import Sam
from dfqsam.sam.sites import Site

WEIGHED = 4  # images of 256 px that the bits of layers are chosen on; of larger ones as many as have no more pixels
HALVINGS = 3  # of the budget, for an agreement that is asked for
SLACK = 512  # bytes a layer that its biases and another choice of divisors may add


def full_precision_bytes(encoder: nn.Module) -> int:
    """What the values of an encoder in full precision take, at four bytes each."""
    values = [*encoder.parameters(), *(b for b in encoder.buffers() if b.is_floating_point())]
    return 4 * sum(value.numel() for value in values)


def settled_bits(sam: Sam, pictures: Sequence[Tensor], config: QuantConfig) -> QuantConfig:
    """``config`` with the layers that keep eight bits where it has a ``file_share``; as it is where it has none.

    Where even the fewest bits everywhere take more than that share, all layers have them.

    Args:
        pictures: calibration images, each 3 x h x w in [0, 1].
    """
    if config.file_share is None:
        return config
    try:
        return within(sam, pictures, config, int(full_precision_bytes(sam.encoder) * config.file_share))
    except InputError:
        return config


def within(sam: Sam, pictures: Sequence[Tensor], config: QuantConfig, target_bytes: int) -> QuantConfig:
    """``config`` with the bits of each layer's weights such that the encoder's file takes at most ``target_bytes``.

    Args:
        pictures: calibration images, each 3 x h x w in [0, 1].

    Raises:
        InputError: when not even 4 bits everywhere are that small.
    """
    least = min(CHOICES)
    sites = _layers(sam, config)
    batches = _weighed(sam, pictures)
    bytes_of = sizes(sam.encoder, sites)
    with stage("Measuring the file with 4-bit weights"):
        whole = _file_bytes(sam, batches, replace(config, weight_bits=least, layer_bits=()))
    rest = whole - sum(by_bits[least] for by_bits in bytes_of.values()) + SLACK * len(sites)
    errors = _errors(sam, sites, batches)
    chosen = allocate(errors, bytes_of, target_bytes - rest)
    bits = tuple((name, count) for name, count in chosen.items() if count != least)
    return replace(config, weight_bits=least, layer_bits=bits)


def agreeing(
    sam: Sam, pictures: Sequence[Tensor], config: QuantConfig, target: float, work: Path | None = None
) -> tuple[Mended, float]:
    """The model with as few bytes of weights as leave masks their agreement with those of full precision, and how far
    they agree, 0 to 100.

    Random prompts are asked about pictures that nothing was fitted on (strained ones, of those that calibration alone
    saw, where there are enough). Budgets between 4 bits everywhere and 8 everywhere are halved :data:`HALVINGS` times;
    each one is quantized and mended, and the one that is taken is what comes back.

    Args:
        pictures: calibration images, each 3 x h x w in [0, 1].
        target: agreement, 0 to 100.
        work: see :func:`dfqsam.mended.mended`.

    Raises:
        InputError: when not even eight bits everywhere agree so well.
    """
    least, most = min(CHOICES), max(CHOICES)
    sites = _layers(sam, config)
    bytes_of = sizes(sam.encoder, sites)
    seen = calibrate(sam.encoder, sam.normalise, [site.name for site in sites], pictures, config.rows)
    judge = Agreement.of(sam.encoder, sam.prompter, [sam.normalise(x[None]) for x in kept_out(pictures)])

    def tried(bits: dict[str, int]) -> tuple[Mended, float]:
        own = tuple((name, count) for name, count in bits.items() if count != least)
        candidate = replace(config, weight_bits=least, layer_bits=own, file_share=None)
        title = f"Quantizing with {len(own)} of {len(sites)} layers at 8 bits"
        made = mended(sam, pictures, candidate, seen, work, title)
        with stage("Judging masks"):
            return made, judge(made.sam.encoder, made.sam.prompter)

    low = sum(by_bits[least] for by_bits in bytes_of.values())
    high = sum(by_bits[most] for by_bits in bytes_of.values())
    best, reached = tried(dict.fromkeys(bytes_of, least))
    if reached >= target:
        return best, reached
    best, reached = tried(dict.fromkeys(bytes_of, most))
    if reached < target:
        raise InputError(
            f"With 8-bit weights everywhere the masks agree by {reached:.1f}, less than the {target:g} that was asked "
            "for; ask for less, or take a profile with finer activations."
        )
    errors = _errors(sam, sites, _weighed(sam, pictures))
    for _ in range(HALVINGS):
        middle = (low + high) // 2
        made, found = tried(allocate(errors, bytes_of, middle))
        if found >= target:
            best, reached, high = made, found, middle
        else:
            low = middle
    return best, reached


def _layers(sam: Sam, config: QuantConfig) -> list[Site]:
    return [site for site in quantizable(sam.sites(), config) if site.kind != "product"]


def _weighed(sam: Sam, pictures: Sequence[Tensor]) -> list[Tensor]:
    """The normalised images that layers are weighed on."""
    count = max(1, WEIGHED * 256**2 // sam.family.image_size**2)
    return varied([sam.normalise(picture[None]) for picture in pictures[:count]])


def _file_bytes(sam: Sam, batches: Sequence[Tensor], config: QuantConfig) -> int:
    encoder = copy.deepcopy(sam.encoder)
    with torch.no_grad():
        quantize_encoder(encoder, sam.sites(), batches, len(batches), config)
    return len(export_encoder(EncoderGraph(encoder, sam.normalise), sam.family.image_size).SerializeToString())


def _errors(sam: Sam, sites: list[Site], batches: list[Tensor]) -> dict[str, dict[int, float]]:
    with stage("Weighing the bits of every layer", len(sites)) as advance:
        return weight_errors(sam.encoder, sites, sam.units(), batches, advance=advance)
