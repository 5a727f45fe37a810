"""A whole SAM: our exact encoder beside SAM's own prompt encoder and mask decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.errors import CheckpointError
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.families import Family, recognise
from dfqsam.sam.preprocessing import Preprocessing
from dfqsam.sam.prompter import Prompter
from dfqsam.sam.sites import Site
from dfqsam.sam.tinyvit import TinyViTConfig, load_tinyvit
from dfqsam.sam.upstream import segment_anything
from dfqsam.sam.vit import ViTConfig, load_vit

CHANNELS = 256


@dataclass
class Sam:
    """A model in evaluation mode, its parameters frozen.

    Attributes:
        family: what it is; ``family.image_size`` is the side of the encoder's square.
        encoder: normalised B x 3 x S x S to B x 256 x E x E.
        prompt_encoder, mask_decoder: segment_anything's modules.
    """

    family: Family
    encoder: nn.Module
    prompt_encoder: Any
    mask_decoder: Any

    def sites(self) -> list[Site]:
        """The encoder's quantization sites in the order of execution."""
        return self.encoder.sites()  # type: ignore[operator]

    def stages(self) -> list[str]:
        """Names of the encoder's parts behind which its features are compared."""
        return self.encoder.stages()  # type: ignore[operator]

    def units(self) -> list[str]:
        """Names of the encoder's parts that pictures pass one after the other; the last one is its neck."""
        return self.encoder.units()  # type: ignore[operator]

    @property
    def batch_norm(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What the encoder's batch norms remember: mean and deviation (each C) of a layer's output, by its name."""
        return getattr(self.encoder, "batch_norm", {})

    @property
    def prompter(self) -> Prompter:
        """Asks the decoder at random places, with prompts of a kind that it knows."""
        return Prompter(self.prompt_encoder, self.mask_decoder, self.family.prompts, self.family.image_size)

    @property
    def any_resolution(self) -> bool:
        """Whether the encoder takes squares of other sides too, as convolutions and windows do."""
        return not self.family.is_vit

    @property
    def grid(self) -> int:
        """Side of the embedding."""
        return int(self.prompt_encoder.image_embedding_size[0])

    def normalise(self, images: Tensor) -> Tensor:
        """B x 3 x h x w in [0, 1], longest side S, to what the encoder takes: scaled, padded with zeros to S x S."""
        size = self.family.image_size
        scaled = scale(images, self.family.preprocessing)
        return F.pad(scaled, (0, size - scaled.shape[3], 0, size - scaled.shape[2]))

    def embed(self, images: Tensor) -> Tensor:
        """B x 3 x h x w in [0, 1], longest side S, to embeddings B x 256 x E x E; differentiable."""
        return self.encoder(self.normalise(images))


def scale(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """B x 3 x h x w in [0, 1] scaled as the family does; the one place where torch normalises pictures."""
    if preprocessing.kind == "minmax":
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        return (images - low) / (high - low).clamp_min(1e-8)
    mean = torch.tensor(preprocessing.mean, device=images.device).reshape(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=images.device).reshape(1, 3, 1, 1)
    return (images * 255 - mean) / std


def load_sam(
    source: str | Path | Mapping[str, Tensor],
    family: str | None = None,
    image_size: int | None = None,
    adapters: bool = True,
) -> Sam:
    """A SAM from a checkpoint file, or from a state dict with SAM's key names.

    Args:
        family: overrides what is recognised from keys and shapes.
        image_size: side of the encoder's square; position tables are resampled.
        adapters: keep SAM-Med2D's adapters where the checkpoint has them.

    Raises:
        CheckpointError: for a damaged file, a model of another kind, or a size that the family does not come in.
    """
    state = dict(source) if isinstance(source, Mapping) else read_state(Path(source))
    kind = recognise(state, family)
    size = image_size or kind.image_size
    if size not in kind.image_sizes:
        sizes = ", ".join(map(str, kind.image_sizes))
        raise CheckpointError(f"{kind.title} does not come in {size} px; choose one of {sizes}.")
    kind = dataclasses.replace(kind, image_size=size)
    parts = {"image_encoder": {}, "prompt_encoder": {}, "mask_decoder": {}}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part not in parts:
            raise CheckpointError(f"The checkpoint has the unexpected key {key}; it is no plain {kind.title}.")
        parts[part][rest] = value.float() if value.is_floating_point() else value
    try:
        encoder = _encoder(kind, parts["image_encoder"], adapters)
        grid = size // 16 if kind.is_vit or kind.patch_stride == 2 else size // 4
        prompts, decoder = prompt_modules(grid, size)
        prompts.load_state_dict(parts["prompt_encoder"], strict=True)
        decoder.load_state_dict(parts["mask_decoder"], strict=True)
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(_sentence(error, kind)) from None
    for module in (encoder, prompts, decoder):
        module.eval().requires_grad_(False)
    return Sam(kind, encoder, prompts, decoder)


def _encoder(kind: Family, state: dict[str, Tensor], adapters: bool) -> nn.Module:
    if not kind.is_vit:
        return load_tinyvit(TinyViTConfig(kind.image_size, kind.patch_stride), state)
    adapted = any(".Adapter." in key for key in state)
    config = ViTConfig(
        image_size=kind.image_size,
        width=kind.width,
        depth=kind.depth,
        heads=kind.heads,
        global_blocks=kind.global_blocks,
        window=kind.window,
        adapters=adapted and adapters,
    )
    return load_vit(config, state)


def prompt_modules(grid: int, size: int) -> tuple[nn.Module, nn.Module]:
    modeling = segment_anything("modeling")
    prompts = modeling.PromptEncoder(
        embed_dim=CHANNELS, image_embedding_size=(grid, grid), input_image_size=(size, size), mask_in_chans=16
    )
    decoder = modeling.MaskDecoder(
        num_multimask_outputs=3,
        transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=CHANNELS, mlp_dim=2048, num_heads=8),
        transformer_dim=CHANNELS,
        iou_head_depth=3,
        iou_head_hidden_dim=CHANNELS,
    )
    return prompts, decoder


def _sentence(error: Exception, kind: Family) -> str:
    """The first thing that torch found wrong, in one line."""
    if isinstance(error, KeyError):
        return f"The checkpoint lacks the key {error.args[0]}, so it is no complete {kind.title}; fetch it again."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[1] if len(lines) > 1 else lines[0]
    more = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
    return f"The checkpoint does not fit {kind.title}: {reason[:300].rstrip('. ')}{more}."
