"""A compact ViT SAM that learns: our ViT encoder with trainable tables, LiteMedSAM's prompt encoder and mask decoder.

The modules and the names of their weights are those that :func:`dfqsam.sam.model.load_sam` reads, so that what was
trained is loaded, quantized and exported as every other SAM with a ViT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfqsam.errors import InputError
from dfqsam.sam.families import COMPACT_SIDE, COMPACT_WINDOW
from dfqsam.sam.model import _prompt_modules
from dfqsam.sam.sites import Pointwise
from dfqsam.sam.vit import Attention, ViT, ViTConfig

MOST_PARAMETERS = 16_000_000
HEAD = 64  # channels of an attention head, as in SAM


@dataclass(frozen=True)
class Sizes:
    """Of the encoder: channels, a multiple of 32 up to 512, and blocks, 1 to 12; every third one attends to the whole
    picture, the others to windows of 14 x 14 tokens.

    Raises:
        InputError: for other sizes.
    """

    width: int = 256
    depth: int = 9

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
            self.prompt_encoder, self.mask_decoder = _prompt_modules(config.grid, config.image_size)
            _initialise(self.image_encoder)
        count = sum(weights.numel() for weights in self.parameters())
        if count > MOST_PARAMETERS:
            raise InputError(f"{sizes.width} channels and {sizes.depth} blocks make {count:,} weights; take fewer.")

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Takes the prompt encoder, the mask decoder and the end of the neck, which gives channels the means and ranges
        that the decoder knows, of another SAM (``state`` has SAM's names). Their weights do not depend on the side of
        the embedding: positions are computed from coordinates in shares of the picture."""
        for name in ("prompt_encoder", "mask_decoder"):
            part = {key.removeprefix(f"{name}."): v.float() for key, v in state.items() if key.startswith(f"{name}.")}
            getattr(self, name).load_state_dict(part, strict=True)
        with torch.no_grad():
            for name, weights in self.image_encoder.neck.named_parameters(prefix="image_encoder.neck"):
                if name in state and not name.startswith("image_encoder.neck.0."):  # it depends on the width
                    weights.copy_(state[name])


def _initialise(encoder: ViT) -> None:
    """SAM's initial values, tables as parameters, and padded tokens that follow the bias as it learns."""
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, Attention):
            for name in ("rel_pos_h", "rel_pos_w"):
                _learn(module, name)
            module.register_forward_pre_hook(_pad_by_bias)
    _learn(encoder, "pos_embed")
    nn.init.trunc_normal_(encoder.pos_embed, std=0.02)


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
