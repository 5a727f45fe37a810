"""Checkpoints of the real architectures with random weights: for speed, size and memory without the published ones.

    python -m dfqsam.sam.random_weights sam-vit-b -o vit_b.safetensors [--seed 0]

Every key and shape is that of the published checkpoint. A ViT has the weights that its authors begin training with,
and small random position tables (which begin at zero). MobileSAM has those of LiteMedSAM, the same network behind
another stem: each filter of 1x1 there stands in the middle of one of 3x3. What such a model segments means nothing.
LiteMedSAM itself comes as it was published.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from dfqsam.errors import DfqsamError, InputError
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.families import FAMILIES, Family
from dfqsam.sam.known import LITE_MEDSAM, get_model
from dfqsam.sam.model import CHANNELS, prompt_modules
from dfqsam.sam.upstream import segment_anything

TABLES = 0.02  # standard deviation of position tables


def encoder(family: Family) -> nn.Module:
    """segment_anything's own encoder of a ViT family, SAM-Med2D's adapters included."""
    module = segment_anything("modeling").ImageEncoderViT(
        depth=family.depth,
        embed_dim=family.width,
        img_size=family.image_size,
        mlp_ratio=4,
        norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
        num_heads=family.heads,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=family.global_blocks,
        window_size=family.window,
        out_chans=CHANNELS,
    )
    if family.name == "sam-med2d":
        for block in module.blocks:
            block.Adapter = adapter(family.width)
    return module


def adapter(width: int) -> nn.Module:
    """SAM-Med2D's, with its own names."""
    module, hidden = nn.Module(), width // 4
    module.norm = nn.LayerNorm(width)
    gate = nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False), nn.Sigmoid()
    module.channel = nn.Sequential(*gate)
    down = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
    up = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False)
    module.spatial = nn.Sequential(down, nn.ReLU(), up, nn.ReLU())
    return module


def random_state(family: Family, seed: int = 0) -> dict[str, Tensor]:
    """A state dict with SAM's key names; float32, no gradients.

    Raises:
        InputError: for a family that comes in no published sizes.
    """
    if family.name not in FAMILIES:
        raise InputError(f"{family.title} comes in no sizes of its own; choose one of {', '.join(FAMILIES)}.")
    if not family.is_vit:
        state = read_state(get_model(LITE_MEDSAM.name))
        return state if family.patch_stride == 1 else _strided(state)
    torch.manual_seed(seed)
    sam = nn.Module()
    sam.image_encoder = encoder(family)
    sam.prompt_encoder, sam.mask_decoder = prompt_modules(family.image_size // 16, family.image_size)
    sam.requires_grad_(False)
    for name, value in sam.image_encoder.named_parameters():
        if "pos" in name:
            value.normal_(std=TABLES)
    return dict(sam.state_dict())


def _strided(state: dict[str, Tensor]) -> dict[str, Tensor]:
    stem = [key for key, value in state.items() if ".patch_embed." in key and value.dim() == 4]
    return {key: nn.functional.pad(value, (1, 1, 1, 1)) if key in stem else value for key, value in state.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .safetensors file")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    try:
        state = random_state(FAMILIES[chosen.family], chosen.seed)
        save_file({key: value.contiguous() for key, value in state.items()}, chosen.output)
    except (DfqsamError, OSError, SafetensorError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
