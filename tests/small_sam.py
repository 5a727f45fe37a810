"""A whole small SAM around the tiny encoder: 64 px, boxes only, with batch-norm statistics of drawn pictures."""

import dataclasses

import torch

from dfqsam.sam.families import FAMILIES
from dfqsam.sam.model import Sam, prompt_modules
from dfqsam.synth.shapes import shapes
from dfqsam.synth.statistics import MomentTap
from tests.small import tiny_encoder


def tiny_sam(seed: int = 0) -> Sam:
    encoder = tiny_encoder(seed)
    prompts, decoder = prompt_modules(16, 64)
    for module in (prompts, decoder):
        module.eval().requires_grad_(False)
    family = FAMILIES["lite-medsam"]
    sam = Sam(dataclasses.replace(family, image_size=64), encoder, prompts, decoder)
    names = {name: None for name, m in encoder.named_modules() if name.endswith(("conv1", "conv3", "local_conv"))}
    with torch.no_grad(), MomentTap(encoder, names) as tap:
        sam.embed(shapes(6, 64, seed=99))
    encoder.batch_norm = {
        name: (one.mean(0), (two.mean(0) - one.mean(0).square()).sqrt()) for name, (one, two) in tap.moments.items()
    }
    return sam
