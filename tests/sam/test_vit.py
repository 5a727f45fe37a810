import pytest
import torch

from dfqsam.sam import random_weights
from dfqsam.sam.adapter import Adapter, adapter_weights, shuffled, sub_pixel
from dfqsam.sam.relative import by_offset, resample_grid, resample_table
from dfqsam.sam.sites import Product
from dfqsam.sam.upstream import segment_anything
from dfqsam.sam.vit import ViT, ViTConfig, load_vit


def published(config: ViTConfig) -> torch.nn.Module:
    """segment_anything's own encoder with random weights everywhere."""
    torch.manual_seed(0)
    encoder = segment_anything("modeling").ImageEncoderViT(
        depth=config.depth,
        embed_dim=config.width,
        img_size=config.image_size,
        mlp_ratio=4,
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
        num_heads=config.heads,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=config.global_blocks,
        window_size=14,
        out_chans=256,
    )
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if "rel_pos" in name or "pos_embed" in name or value.dim() == 1:
                value.add_(torch.randn_like(value) * 0.5)
    return encoder.eval().requires_grad_(False)


def difference(config: ViTConfig) -> float:
    theirs = published(config)
    ours = load_vit(config, theirs.state_dict())
    x = torch.randn(1, 3, config.image_size, config.image_size)
    expected = theirs(x)
    return float((ours(x) - expected).norm() / expected.norm())


@pytest.mark.parametrize("size", [224, 256, 512])
def test_vit_b_equals_segment_anything(size):
    assert difference(ViTConfig(image_size=size)) < 1e-5


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(width=768, heads=12, depth=2, global_blocks=(1,)),
        ViTConfig(width=1024, heads=16, depth=2, global_blocks=(0,), image_size=256),
        ViTConfig(width=1280, heads=16, depth=2, global_blocks=(1,), image_size=256),
    ],
    ids=["b-1024", "l", "h"],
)
def test_large_shapes_with_fewer_blocks_equal_segment_anything(config):
    assert difference(config) < 1e-5


@pytest.mark.slow
def test_vit_b_at_1024_equals_segment_anything():
    assert difference(ViTConfig()) < 1e-5


def adapted(x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """SAM-Med2D's adapter written out with functions and its own kernels, on B x H x W x C."""
    f = torch.nn.functional
    planes = x.permute(0, 3, 1, 2)
    pooled = f.adaptive_avg_pool2d(planes, 1).flatten(1)
    gate = torch.sigmoid(f.relu(pooled @ state["channel.0.weight"].T) @ state["channel.2.weight"].T)
    planes = planes * gate[:, :, None, None]
    down = f.relu(f.conv2d(planes, state["spatial.0.weight"], stride=2, padding=1))
    planes = planes + f.relu(f.conv_transpose2d(down, state["spatial.2.weight"], stride=2, padding=1))
    return f.layer_norm(planes.permute(0, 2, 3, 1), x.shape[-1:], state["norm.weight"], state["norm.bias"])


def published_adapter(width: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return random_weights.adapter(width).requires_grad_(False).state_dict()


def test_adapter_equals_its_formula_and_adds_to_the_block():
    published = published_adapter(16)
    adapter = Adapter(16).requires_grad_(False)
    names = {f"blocks.0.Adapter.{key}": value for key, value in published.items()}
    adapter.load_state_dict({key.split(".", 3)[3]: value for key, value in adapter_weights(names).items()})
    x = torch.randn(2, 6, 4, 16)
    torch.testing.assert_close(adapter(x), adapted(x, published))
    config = ViTConfig(image_size=64, width=32, depth=1, heads=2, global_blocks=(), adapters=True)
    encoder = ViT(config).eval().requires_grad_(False)
    block, tokens = encoder.blocks[0], torch.randn(1, 4, 4, 32)
    with_it = block(tokens)
    adapter, block.Adapter = block.Adapter, None
    rest = block(tokens)
    attended = tokens + block.attn(block.norm1(tokens))
    torch.testing.assert_close(with_it - rest, adapter(block.norm2(attended)), rtol=1e-4, atol=1e-4)


def test_a_transposed_convolution_by_hand():
    """One place of one channel that is 1: its kernel comes out as it is."""
    kernel = torch.arange(1.0, 17).reshape(1, 1, 4, 4)
    one = torch.zeros(1, 1, 3, 3)
    one[0, 0, 1, 1] = 1
    places = torch.nn.functional.conv2d(one, sub_pixel(kernel), padding=1).permute(0, 2, 3, 1)
    assert torch.equal(shuffled(places)[0, 1:5, 1:5, 0], kernel[0, 0])
    assert int((shuffled(places) != 0).sum()) == 16


def test_published_adapters_are_loaded_and_their_convolutions_are_sites():
    config = ViTConfig(image_size=64, width=32, depth=1, heads=2, global_blocks=(), adapters=True)
    state = {key: value for key, value in ViT(config).state_dict().items() if ".Adapter." not in key}
    published = published_adapter(32)
    encoder = load_vit(config, {**state, **{f"blocks.0.Adapter.{key}": value for key, value in published.items()}})
    x = torch.randn(1, 4, 4, 32)
    torch.testing.assert_close(encoder.blocks[0].Adapter(x), adapted(x, published))
    kinds = {s.name: (s.kind, s.norm) for s in encoder.sites()}
    assert kinds["blocks.0.Adapter.down"] == kinds["blocks.0.Adapter.up"] == ("conv", None)


def test_adapters_can_be_dropped_and_keep_the_second_norm_from_reparameterization():
    config = ViTConfig(image_size=64, width=32, depth=1, heads=2, global_blocks=(), adapters=True)
    encoder = ViT(config)
    assert {s.name: s.norm for s in encoder.sites()}["blocks.0.mlp.lin1"] is None
    dropped = load_vit(ViTConfig(image_size=64, width=32, depth=1, heads=2, global_blocks=()), encoder.state_dict())
    assert dropped.blocks[0].Adapter is None
    assert {s.name: s.norm for s in dropped.sites()}["blocks.0.mlp.lin1"] == "blocks.0.norm2"


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_row_chunks_change_nothing(rows):
    config = ViTConfig(image_size=160, width=32, depth=1, heads=2, global_blocks=(0,))
    theirs = published(config)
    x = torch.randn(1, 3, 160, 160)
    whole = load_vit(config, theirs.state_dict())(x)
    chunked = load_vit(ViTConfig(160, 16, 32, 1, 2, (0,), rows_per_chunk=rows), theirs.state_dict())(x)
    torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-5)


def test_offsets_by_hand():
    table = torch.arange(5.0)[:, None]  # offsets -2 … 2
    assert by_offset(table, 3)[..., 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]


def test_tables_of_another_size_are_resampled():
    assert torch.equal(resample_table(torch.ones(127, 3), 31), torch.ones(31, 3))
    ramp = torch.arange(8.0).reshape(1, 1, 8, 1).expand(1, 8, 8, 1)
    assert resample_grid(ramp, 4)[0, 0, :, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    big = published(ViTConfig(image_size=256, width=32, depth=1, heads=2, global_blocks=(0,)))
    small = load_vit(ViTConfig(image_size=128, width=32, depth=1, heads=2, global_blocks=(0,)), big.state_dict())
    assert small(torch.randn(1, 3, 128, 128)).shape == (1, 256, 8, 8)


def test_sites_name_every_linear_convolution_and_product_once():
    encoder = ViT(ViTConfig(image_size=64, width=32, depth=2, heads=2, global_blocks=(1,)))
    kinds = torch.nn.Linear | torch.nn.Conv2d | Product
    modules = {name for name, module in encoder.named_modules() if isinstance(module, kinds)}
    names = [site.name for site in encoder.sites()]
    assert set(names) == modules
    assert len(names) == len(modules)
