"""Scale reparameterization: exact, and as fine as a grid for every channel."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.config import TARGETS
from dfqsam.quant.observe import observe
from dfqsam.quant.reparameterize import channel_grids, moves_zero, reparameterize, rescaling, target_of
from dfqsam.sam.vit import Attention, ViT, ViTConfig
from tests.small import tiny_encoder


def small_vit() -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = ViT(ViTConfig(image_size=64, width=32, depth=2, heads=2, global_blocks=(1,))).eval().requires_grad_(False)
    encoder.pos_embed.normal_()
    for module in encoder.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.copy_(torch.randn_like(module.weight).exp())
            module.bias.copy_(torch.randn_like(module.bias))
        if isinstance(module, Attention):
            module.rel_pos_h.normal_()
            module.qkv_pad.copy_(module.qkv.bias)
    return encoder


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("make", "count"), [(tiny_encoder, 7), (small_vit, 5)], ids=["tinyvit", "vit"])
def test_the_encoder_computes_what_it_computed(make, count, target):
    encoder = make()
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    before = encoder(x)
    fed = [site for site in encoder.sites() if site.norm]
    assert len(fed) == count  # qkv and the first Linear of every block, and the neck's 3x3 convolution
    samples = observe(encoder, [site.name for site in fed], [x], 1, 1 << 16)
    for site in fed:
        values = samples[site.name]
        reader = encoder.get_submodule(site.name)
        change = rescaling(values, target, 8, moves_zero(reader))
        reparameterize(encoder.get_submodule(site.norm), reader, change)
        spread = (values.amax(0) - values.amin(0)) / change.ratio
        old = values.amax(0) - values.amin(0)
        assert spread.max() / spread.min() < old.max() / old.min()
        if site.name == "neck.2":
            assert not change.center.any()  # its padding is made of zeros
    after = encoder(x)
    assert float((after - before).norm() / before.norm()) <= 1e-5


@given(st.sampled_from(["mean", "median", "mad"]), st.integers(2, 8), st.integers(0, 2**31))
def test_codes_on_the_common_grid_are_those_on_each_channels_own(target, bits, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(64, 9, generator=generator, dtype=torch.float64)
    values = values * torch.randn(9, generator=generator).exp() + torch.randn(9, generator=generator)
    scale, zero = channel_grids(values.amin(0), values.amax(0), bits)
    change = rescaling(values, target, bits, shifts=True)
    common = min(max(round(target_of(zero, target)), 0), 2**bits - 1)
    own = ((values / scale).round() + zero).clamp(0, 2**bits - 1)
    shared = ((change.apply(values) / target_of(scale, target)).round() + common).clamp(0, 2**bits - 1)
    assert torch.equal(own, shared)


def test_a_rescaling_by_hand():
    # Grids (1, 0) and (2, 1) at 2 bits; scale 1.5 and zero point round(0.5) = 0 in the mean.
    values = torch.tensor([[0.0, -2.0], [3.0, 4.0]])
    change = rescaling(values, "mean", 2, shifts=True)
    assert change.center.tolist() == [0.0, -2.0]
    torch.testing.assert_close(change.ratio, torch.tensor([1 / 1.5, 2 / 1.5]))
    torch.testing.assert_close(change.apply(values), torch.tensor([[0.0, 0.0], [4.5, 4.5]]))


def test_centred_channels_have_equal_reach():
    encoder = tiny_encoder()
    site = next(site for site in encoder.sites() if site.norm)
    values = observe(encoder, [site.name], [torch.rand(1, 3, 64, 64)], 1, 1 << 20)[site.name]
    change = rescaling(values, "center", 8, moves_zero(encoder.get_submodule(site.name)))
    reach = change.apply(values).abs().amax(0)
    assert float(reach.max() / reach.min()) < 1.01


def test_one_far_channel_moves_the_mean_only():
    values = torch.tensor([1.0, 2.0, 3.0, 100.0])
    assert [target_of(values, kind) for kind in ("mean", "median", "mad")] == [26.5, 2.0, 2.0]
    assert target_of(torch.full((3,), 4.0), "mad") == 4.0
