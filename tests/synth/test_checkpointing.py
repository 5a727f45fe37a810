import torch

from dfqsam.sam.vit import ViT, ViTConfig
from dfqsam.synth.checkpointing import checkpointed
from dfqsam.synth.taps import AttentionTap, TokenTap

CONFIG = ViTConfig(image_size=64, patch=8, width=128, depth=4, heads=4, global_blocks=(1,), window=4, rows_per_chunk=3)


def gradient(save: bool) -> tuple[torch.Tensor, int]:
    torch.manual_seed(0)
    encoder = ViT(CONFIG).eval().requires_grad_(False)
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    kept = 0

    def pack(value: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += value.numel()
        return value

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value),
        TokenTap(encoder, encoder.sites()) as tokens,
        AttentionTap(encoder, encoder.sites()) as attention,
        checkpointed(list(encoder.blocks) if save else []),
    ):
        loss = encoder(images).square().mean() + tokens.tokens[0].square().mean() + attention.received[0].std()
    loss.backward()
    assert images.grad is not None
    assert all("forward" not in vars(block) for block in encoder.blocks)
    return images.grad, kept


def test_gradients_are_the_same_and_less_is_kept():
    plain, whole = gradient(save=False)
    again, part = gradient(save=True)
    torch.testing.assert_close(again, plain, rtol=1e-5, atol=1e-8)
    assert part < 0.5 * whole
