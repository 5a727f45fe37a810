import copy

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.sam.fused import attention, bottleneck, deployed_forms
from dfqsam.sam.tinyvit import MBConv, PatchMerging
from dfqsam.sam.windows import groups, in_windows, padded_places, partition, put_back, real_places
from dfqsam.synth.shapes import shapes
from tests.quant.test_compensate import tiny_vit
from tests.small import tiny_encoder


@torch.no_grad()
@pytest.mark.parametrize("make", [tiny_encoder, tiny_vit])
def test_deployed_forms_compute_the_same_and_are_gone_afterwards(make):
    encoder, images = make(), shapes(2, 64, 0) - 0.5
    # Position tables that say something.
    for name, buffer in encoder.named_buffers():
        if name.endswith(("attention_biases", "rel_pos_h", "rel_pos_w")):
            buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(1)))
    true = encoder(images)
    changed = {name for name, module in encoder.named_modules() if getattr(module, "fused", None) is not None}
    with deployed_forms(encoder):
        assert changed
        assert all(encoder.get_submodule(name).fused for name in changed)
        torch.testing.assert_close(encoder(images), true, rtol=1e-4, atol=1e-4)
    assert not any(encoder.get_submodule(name).fused for name in changed)
    assert torch.equal(encoder(images), true)


@torch.no_grad()
def test_what_holds_quantized_parts_keeps_its_form():
    encoder = copy.deepcopy(tiny_encoder())
    images = list(shapes(2, 64, 0)[:, None] - 0.5)
    quantize_encoder(encoder, encoder.sites(), images, 2, QuantConfig.of("W8A8"))
    with deployed_forms(encoder):
        assert not any(getattr(module, "fused", False) for module in encoder.modules())
        assert all(getattr(module, "strips", 1) == 1 for module in encoder.modules())


@torch.no_grad()
@pytest.mark.parametrize(("height", "strips"), [(16, 4), (9, 2), (5, 8), (1, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_strips_of_any_height_give_what_the_whole_gives(height, strips, stride):
    torch.manual_seed(0)
    module = MBConv(8) if stride == 1 else PatchMerging(8, 12, 2)
    x = torch.randn(2, height, 7, 8)
    parts = (module.conv1, module.conv2, module.conv3)
    torch.testing.assert_close(bottleneck(x, parts, strips, residual=stride == 1), module(x))


@torch.no_grad()
def test_attention_by_hand():
    query, key, value = torch.randn(1, 2, 4), torch.randn(1, 3, 4), torch.randn(1, 3, 6)
    bias = torch.randn(1, 2, 2, 3)
    found = attention(query, key, value, bias, 2, 0.5)
    for head in range(2):
        q, k, v = query[0, :, 2 * head :][:, :2], key[0, :, 2 * head :][:, :2], value[0, :, 3 * head :][:, :3]
        wanted = (0.5 * q @ k.T + bias[0, head]).softmax(-1) @ v
        torch.testing.assert_close(found[0, :, 3 * head : 3 * head + 3], wanted)


@pytest.mark.parametrize(("height", "width", "window"), [(14, 14, 7), (9, 16, 7), (3, 5, 7), (8, 8, 3)])
def test_gathered_windows_are_partitioned_ones(height, width, window):
    x, pad = torch.randn(2, height, width, 4), torch.randn(4)
    wanted = partition(x, window, pad).unflatten(0, (2, -(-height // window), -(-width // window)))
    grouped = groups(height, width, window)
    parts = []
    for group in (group for strip in grouped for group in strip):
        near = (slice(None), slice(group.rows.start, group.rows.stop), slice(group.columns.start, group.columns.stop))
        own = wanted[near].flatten(0, 2)
        found = x.flatten(1, 2).index_select(1, real_places(group, width, window))
        parts.append(found.reshape(-1, group.high, group.wide, 4))
        before = torch.zeros(2, 3, 4)  # tokens of other groups
        tokens = torch.cat([before, found, pad.expand(2, 1, 4)], 1)
        every = padded_places(group, window, 3, tokens.shape[1] - 1)
        assert torch.equal(tokens.index_select(1, every).reshape(own.shape), own)
        real = own.unflatten(1, (window, window))[:, : group.high, : group.wide]
        assert torch.equal(parts[-1], real)
    assert torch.equal(put_back(parts, grouped), x)


def test_windows_see_their_own_tokens_and_the_padding():
    """Each query is answered with the sum of its window's values: ones, and 10 for every token that is missing."""
    qkv, pad = torch.ones(1, 3, 5, 3), torch.full((3,), 10.0)
    seen = []

    def attend(query, key, value, group):
        seen.append((len(query), group.high, group.wide))
        return value.sum(1, keepdim=True).expand(-1, group.high * group.wide, 1)

    def tokens(places):
        return qkv.flatten(1, 2).index_select(1, places).chunk(3, -1)

    found = in_windows(tokens, pad, 3, 5, 2, attend)[0, :, :, 0]
    assert seen == [(2, 2, 2), (1, 2, 1), (2, 1, 2), (1, 1, 1)]
    assert found.tolist() == [[4, 4, 4, 4, 22], [4, 4, 4, 4, 22], [22, 22, 22, 22, 31]]


def test_groups_by_hand():
    assert [[(g.rows, g.columns, g.high, g.wide) for g in strip] for strip in groups(5, 16, 14)] == [
        [(range(0, 1), range(0, 1), 5, 14), (range(0, 1), range(1, 2), 5, 2)]
    ]
