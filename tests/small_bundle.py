"""Whole bundles of small models with random weights: every family's architecture, narrow and shallow."""

import dataclasses
from pathlib import Path

import pytest
import torch

from dfqsam.assemble import build_bundle
from dfqsam.bundle import Bundle
from dfqsam.config import QuantConfig
from dfqsam.sam.families import FAMILIES
from dfqsam.sam.model import Sam, prompt_modules
from dfqsam.sam.tinyvit import TinyViT, TinyViTConfig
from dfqsam.sam.vit import Attention, ViT, ViTConfig
from dfqsam.synth.shapes import shapes
from dfqsam.synth.synthetic_set import SyntheticSet
from tests.small import CONFIG


def small_encoder(family: str, size: int) -> torch.nn.Module:
    """Of that kind: MobileSAM's patch embedding, SAM-Med2D's adapters, windows and global attention of a ViT."""
    torch.manual_seed(0)
    if not FAMILIES[family].is_vit:
        stride = FAMILIES[family].patch_stride
        dims, depths, heads = CONFIG.dims, CONFIG.depths, CONFIG.heads
        return TinyViT(TinyViTConfig(size, stride, dims, depths, heads)).eval().requires_grad_(False)
    adapters = family == "sam-med2d"
    encoder = ViT(ViTConfig(size, width=64, depth=2, heads=2, global_blocks=(1,), adapters=adapters))
    encoder.eval().requires_grad_(False)
    encoder.pos_embed.normal_()
    for module in encoder.modules():
        if isinstance(module, Attention):
            module.rel_pos_h.normal_()
            module.rel_pos_w.normal_()
            module.qkv_pad.copy_(module.qkv.bias)
    return encoder


def small_sam(family: str, size: int) -> Sam:
    kind = FAMILIES[family]
    prompts, decoder = prompt_modules(size // (4 * kind.patch_stride**2 if not kind.is_vit else 16), size)
    for module in (prompts, decoder):
        module.eval().requires_grad_(False)
    return Sam(dataclasses.replace(kind, image_size=size), small_encoder(family, size), prompts, decoder)


def small_bundle(folder: Path, sam: Sam, config: QuantConfig, images: int = 4) -> Bundle:
    size = sam.family.image_size
    pictures = SyntheticSet.of(shapes(images, size, 0), torch.zeros(images, 1, size, size), {}, [])
    return build_bundle(sam, pictures, folder, config, {"images": images, "origin": "drawn"}, "0" * 64)


def bundle_on_integers(folder: Path, patch: pytest.MonkeyPatch) -> Bundle:
    """Of a SAM ViT (w8a8) whose attention over its whole grid was "measured" to be faster on integers."""
    patch.setattr("dfqsam.export.attention._measured", lambda: {(1, 16, 16, 2, 32): 0.5})
    return small_bundle(folder, small_sam("sam-vit-b", 64), QuantConfig.of("w8a8", "plain"))
