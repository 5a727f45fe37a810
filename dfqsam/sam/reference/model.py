"""A compact ViT SAM that learns: our ViT encoder with trainable tables, LiteMedSAM's prompt encoder and mask decoder.

The modules and the names of their weights are those that :func:`dfqsam.sam.model.load_sam` reads, so that what was
trained is loaded, quantized and exported as every other SAM with a ViT.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfqsam.errors import InputError
from dfqsam.sam.families import COMPACT_SIDE, COMPACT_WINDOW
from dfqsam.sam.model import prompt_modules
from dfqsam.sam.sites import Pointwise
from dfqsam.sam.vit import Attention, ViT, ViTConfig

MOST_PARAMETERS = 16_000_000
STEEP = 5.0  # so that what differs from patch to patch is about 1
POSITIONS = 0.5  # amplitude of positions at the start
HEAD = 64  # channels of an attention head, as in SAM


@dataclass(frozen=True)
class Sizes:
    """Of the encoder: channels, a multiple of 32 up to 512, and blocks, 1 to 12; every third one attends to the whole
    picture, the others to windows of 14 x 14 tokens.

    Raises:
        InputError: for other sizes.
    """

    width: int = 192
    depth: int = 6

    def __post_init__(self) -> None:
        if not (32 <= self.width <= 512) or self.width % 32 or (self.width > HEAD and self.width % HEAD):
            raise InputError(f"{self.width} channels make no encoder; give 32, or a multiple of 64 up to 512.")
        if not 1 <= self.depth <= 12:
            raise InputError(f"{self.depth} blocks make no compact encoder; give 1 to 12.")

    def config(self) -> ViTConfig:
        heads = max(1, self.width // HEAD)
        whole = tuple(range(2, self.depth, 3))
        side = COMPACT_SIDE
        return ViTConfig(
            side, width=self.width, depth=self.depth, heads=heads, global_blocks=whole, window=COMPACT_WINDOW
        )


class Learner(nn.Module):
    """A whole SAM whose every weight can learn; its parts have the names that checkpoints give them.

    Attributes:
        image_encoder: B x 3 x 256 x 256, normalised, to B x 256 x 16 x 16.
        prompt_encoder, mask_decoder: segment_anything's modules.
    """

    prompt_encoder: Any
    mask_decoder: Any

    def __init__(self, sizes: Sizes, seed: int = 0) -> None:
        """Random weights, drawn with ``seed``.

        Raises:
            InputError: when there are more than 16 million of them.
        """
        super().__init__()
        config = sizes.config()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image_encoder = ViT(config)
            self.prompt_encoder, self.mask_decoder = prompt_modules(config.grid, config.image_size)
            _initialise(self.image_encoder)
        count = sum(weights.numel() for weights in self.parameters())
        if count > MOST_PARAMETERS:
            raise InputError(f"{sizes.width} channels and {sizes.depth} blocks make {count:,} weights; take fewer.")

    def start_from(self, state: Mapping[str, Tensor]) -> bool:
        """Takes the weights of another SAM (``state`` has SAM's names): all of a compact ViT's of the same sizes; of
        others the prompt encoder, the mask decoder and the end of the neck, which gives channels the means and ranges
        that the decoder knows. These do not depend on the side of the embedding: positions are computed from
        coordinates in shares of the picture.

        Returns:
            Whether all were taken.

        Raises:
            InputError: when they are no SAM's.
        """
        own = self.state_dict()
        same = own.keys() <= state.keys() and all(v.numel() == state[k].numel() for k, v in own.items())
        shared = ("prompt_encoder.", "mask_decoder.", *(f"image_encoder.neck.{i}." for i in (1, 2, 3)))
        chosen = own if same else {key: value for key, value in own.items() if key.startswith(shared) and key in state}
        found = {key: state[key].float().view_as(value) for key, value in chosen.items()}
        for name in ("prompt_encoder", "mask_decoder"):
            missing = [key for key in own if key.startswith(f"{name}.") and key not in found]
            if missing:
                raise InputError(f"The checkpoint to start with has no {missing[0]}; give that of a SAM.")
        self.load_state_dict(found, strict=False)
        return same


def _initialise(encoder: ViT) -> None:
    """Initial values that suit a narrow ViT (Glorot's; a standard deviation of 0.02, made for width 768, leaves
    narrower blocks without a voice), tables as parameters, and padded tokens that follow the bias as it learns."""
    for module in encoder.modules():
        if isinstance(module, (nn.Linear, Pointwise)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, Attention):
            for name in ("rel_pos_h", "rel_pos_w"):
                _learn(module, name)
            module.register_forward_pre_hook(_pad_by_bias)
    _learn(encoder, "pos_embed")
    with torch.no_grad():
        encoder.pos_embed.copy_(waves(encoder.pos_embed.shape[1], encoder.pos_embed.shape[3]))
        encoder.patch_embed.proj.weight.copy_(cosines(*encoder.patch_embed.proj.weight.shape))


def cosines(width: int, channels: int, height: int, side: int) -> Tensor:
    """The first ``width`` cosines of a patch's grey levels, from coarse to fine: what a patch shows is in its token
    from the first step on, and fine detail, whose amplitude in pictures falls with its frequency, is as large as
    coarse.

    Returns:
        ``width`` x ``channels`` x ``height`` x ``side``; further rows than there are cosines are small random ones.
    """
    steps = (torch.arange(side) + 0.5) / side
    one = torch.cos(math.pi * torch.arange(side)[:, None] * steps) * (2 / side) ** 0.5
    one[0] /= 2**0.5
    both = torch.einsum("uy,vx->uvyx", one, one).flatten(0, 1)
    radius = (torch.arange(side)[:, None].square() + torch.arange(side).square()).flatten().float().sqrt()
    order = radius.argsort(stable=True)[:width]
    found = 0.02 * torch.randn(width, channels, height, side)
    found[: len(order)] = (both[order] * (STEEP * (1 + radius[order]) / side)[:, None, None])[:, None] / channels
    found[0] /= 4  # the mean grey level outweighs all else
    return found


def waves(side: int, width: int) -> Tensor:
    """1 x ``side`` x ``side`` x ``width``: sines and cosines of rows and columns, as in masked autoencoders (He et al.,
    2022), small enough not to drown what tokens hold."""
    rates = 10_000 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * rates
    parts = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = parts[:, None].expand(-1, side, -1), parts[None].expand(side, -1, -1)
    return POSITIONS * torch.cat([rows, columns], 2)[None]


def _learn(module: nn.Module, name: str) -> None:
    """Makes a parameter of a buffer."""
    value = getattr(module, name)
    delattr(module, name)
    module.register_parameter(name, nn.Parameter(value))


def _pad_by_bias(module: nn.Module, _inputs: object) -> None:
    # A zero token gives the bias of qkv; loading sets this once, learning changes it at every step.
    assert isinstance(module, Attention)
    assert module.qkv.bias is not None
    module.qkv_pad = module.qkv.bias.view(-1)


def published_form(learner: Learner, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` of ``learner`` as SAM's checkpoints are: 1x1 convolutions as such. Tensors on the processor."""
    pointwise = {f"{name}.weight" for name, module in learner.named_modules() if isinstance(module, Pointwise)}
    found = {}
    for key, value in state.items():
        value = value.detach().cpu()
        found[key] = (value[..., None, None] if key in pointwise else value).contiguous()
    return found
