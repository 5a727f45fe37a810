"""PSAQ-ViT: images whose patches the encoder's attention tells apart (Li et al., ECCV 2022), for SAM encoders.

SAM has no classes, so the class term is dropped; what is left is the patch-similarity entropy and a total variation
that is held near that of smooth pictures.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqsam.config import SynthesisConfig
from dfqsam.sam.device import device_of
from dfqsam.sam.model import Sam, scale
from dfqsam.synth.batching import batches
from dfqsam.synth.checkpointing import checkpointed
from dfqsam.synth.pyramid import Pyramid, total_variation
from dfqsam.synth.similarity import patch_similarity_entropy
from dfqsam.synth.taps import TokenTap

LEARNING_RATE = 0.1
VARIATION = 20.0
VARIATION_TARGET = 0.03


def psaq(sam: Sam, config: SynthesisConfig, advance: Callable[..., object] = lambda *_, **__: None) -> Tensor:
    """config.images x 3 x S x S images in [0, 1].

    Args:
        advance: called after every step with the losses by name.
    """
    size, generator = sam.family.image_size, torch.Generator().manual_seed(config.seed)
    device = device_of(sam.encoder)
    early = round(config.steps * config.early) if sam.any_resolution else 0
    done = []
    for index in batches(sam, config):
        pyramid = Pyramid.random(index.stop - index.start, size, config.seed * 1_000_003 + index.start).to(device)
        optimiser = torch.optim.Adam(pyramid.parameters(), lr=LEARNING_RATE, betas=(0.5, 0.9))
        for step in range(config.steps):
            images = pyramid()
            variation = (total_variation(images) - VARIATION_TARGET).abs().mean()
            dy, dx = (int(o) for o in torch.randint(-size // 16, size // 16 + 1, (2,), generator=generator))
            moved = images.roll((dy, dx), (2, 3))
            if step < early:
                moved = F.interpolate(moved, scale_factor=0.5, mode="area")
            blocks = list(getattr(sam.encoder, "blocks", []))
            with TokenTap(sam.encoder, sam.sites()) as tap, checkpointed(blocks):
                sam.encoder(scale(moved, sam.family.preprocessing))
            entropy = patch_similarity_entropy(tap.tokens, generator)
            optimiser.zero_grad()
            (VARIATION * variation - entropy).backward()
            optimiser.step()
            advance(entropy=float(entropy.detach()), variation=float(variation.detach()))
        done.append(pyramid().detach().cpu())
    return torch.cat(done)
