"""A small TinyViT with random weights and prompt modules of SAM's kind, quick enough for every test."""

import torch

from dfqsam.sam.tinyvit import TinyViT, TinyViTConfig, WindowAttention

CONFIG = TinyViTConfig(
    image_size=64, dims=(16, 32, 32, 64), depths=(1, 1, 1, 1), heads=(2, 2, 2, 2), windows=(7, 7, 14, 7)
)


def tiny_encoder(seed: int = 0) -> TinyViT:
    """64 px in, 1 x 256 x 16 x 16 out; padded windows, uneven LayerNorm gains."""
    torch.manual_seed(seed)
    encoder = TinyViT(CONFIG).eval().requires_grad_(False)
    for module in encoder.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.copy_(torch.randn_like(module.weight).exp())
            module.bias.copy_(torch.randn_like(module.bias))
    for module in encoder.modules():
        if isinstance(module, WindowAttention):
            module.attention_biases.copy_(torch.randn_like(module.attention_biases))
            module.qkv_pad.copy_(module.qkv(module.norm.bias))
    return encoder
