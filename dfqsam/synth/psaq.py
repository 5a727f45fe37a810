"""PSAQ-ViT: images whose patches the encoder's attention tells apart (Li et al., ECCV 2022), for SAM encoders.

SAM has no classes, so the class term is dropped; what is left is the patch-similarity entropy and a total variation
that is held near that of smooth pictures.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.config import SynthesisConfig
from dfqsam.sam.sites import Site
from dfqsam.synth.similarity import cosine_similarities, differential_entropy

TOKENS = 128
LEARNING_RATE = 0.1
TV_WEIGHT = 20.0
TV_TARGET = 0.03


class Pyramid(nn.Module):
    """Images in [0, 1] as the sigmoid of a sum of logits at a quarter, half and full resolution.

    The coarse levels keep the spectrum close to that of pictures, where free pixels would drift into noise.
    """

    def __init__(self, count: int, size: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.size = size
        self.levels = nn.ParameterList(
            0.5 * torch.randn(count, 3, max(1, size // step), max(1, size // step), generator=generator)
            for step in (32, 8, 4, 2, 1)
        )

    def forward(self) -> Tensor:
        shape = (self.size, self.size)
        grown = (F.interpolate(level, shape, mode="bilinear", align_corners=False) for level in self.levels)
        return torch.stack(list(grown)).sum(0).sigmoid()


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference between neighbours of B x C x H x W; a scalar."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    right = (images[..., 1:] - images[..., :-1]).abs().mean()
    return (down + right) / 2


class TokenTap:
    """Collects what the attention of every block gives (B x H x W x C, real tokens only) while it is entered."""

    def __init__(self, encoder: nn.Module, sites: list[Site]) -> None:
        self.modules = [
            encoder.get_submodule(site.name) for site in sites if site.kind == "linear" and site.source == "attention"
        ]
        self.tokens: list[Tensor] = []

    def __enter__(self) -> TokenTap:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.tokens.append(inputs[0])

        self.hooks = [module.register_forward_pre_hook(keep) for module in self.modules]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


def patch_similarity_entropy(tokens: list[Tensor], generator: torch.Generator) -> Tensor:
    """Mean entropy over blocks and images; each block gives ``TOKENS`` tokens drawn at random from its grid."""
    entropies = []
    for grid in tokens:
        flat = grid.flatten(1, 2)
        chosen = torch.randperm(flat.shape[1], generator=generator)[:TOKENS].to(flat.device)
        entropies.append(differential_entropy(cosine_similarities(flat[:, chosen])).mean())
    return torch.stack(entropies).mean()


def psaq(
    embed: Callable[[Tensor], Tensor],
    encoder: nn.Module,
    sites: list[Site],
    size: int,
    config: SynthesisConfig,
    advance: Callable[..., object] = lambda **_: None,
) -> Tensor:
    """config.images x 3 x size x size images in [0, 1].

    Args:
        embed: images in [0, 1] to embeddings, through ``encoder``; differentiable.
        advance: called after every step with the losses by name.
    """
    generator = torch.Generator().manual_seed(config.seed)
    done = []
    for start in range(0, config.images, config.batch):
        count = min(config.batch, config.images - start)
        pyramid = Pyramid(count, size, config.seed * 1_000_003 + start)
        optimiser = torch.optim.Adam(pyramid.parameters(), lr=LEARNING_RATE, betas=(0.5, 0.9))
        for _ in range(config.steps):
            images = pyramid()
            dy, dx = (int(o) for o in torch.randint(-size // 16, size // 16 + 1, (2,), generator=generator))
            with TokenTap(encoder, sites) as tap, torch.autocast("cpu", torch.bfloat16):
                embed(images.roll((dy, dx), (2, 3)))
            entropy = patch_similarity_entropy(tap.tokens, generator)
            variation = (total_variation(images) - TV_TARGET).abs()
            optimiser.zero_grad()
            (TV_WEIGHT * variation - entropy).backward()
            optimiser.step()
            advance(entropy=float(entropy.detach()), variation=float(variation.detach()))
        done.append(pyramid().detach())
    return torch.cat(done)
