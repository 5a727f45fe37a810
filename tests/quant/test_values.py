import copy
from dataclasses import replace

import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.quant.encoder import quantize_encoder, quantized_layers
from dfqsam.quant.layers import require_on_grid
from dfqsam.quant.values import fold_into_values
from dfqsam.synth.shapes import shapes
from tests.quant.test_compensate import tiny_vit
from tests.small import tiny_encoder


@torch.no_grad()
@pytest.mark.parametrize("make", [tiny_encoder, tiny_vit])
@pytest.mark.parametrize("bits", [6, 8])
def test_folding_changes_nothing_but_where_the_division_happens(make, bits):
    encoder, images = make(), list(shapes(3, 64, 0)[:, None] - 0.5)
    # Values whose channels differ by much, so that their division pays.
    for module in encoder.modules():
        if hasattr(module, "qkv_pad"):
            dim = module.qkv.out_features // 3
            gains = torch.logspace(-1, 1, dim)
            module.qkv.weight[2 * dim :] *= gains[:, None]
            module.qkv.bias[2 * dim :] = gains
            module.qkv_pad[2 * dim :] *= gains
    config = replace(QuantConfig.of("w8a8"), activation_bits=bits)
    quantize_encoder(encoder, encoder.sites(), images, len(images), config)
    moved = [name for name, layer in quantized_layers(encoder).items() if layer.divisor is not None]
    readers = [name for name in moved if name.endswith("attn.proj")]
    assert readers
    x, before = shapes(1, 64, 9) - 0.5, copy.deepcopy(encoder)
    assert fold_into_values(encoder) == len(readers)
    assert all(encoder.get_submodule(name).divisor is None for name in readers)
    require_on_grid(encoder)
    # The same up to codes that float rounding turns over: next to none in one attention, more behind many.
    for name in readers:
        attention, same = (e.get_submodule(name.removesuffix(".proj")) for e in (encoder, before))
        tokens = torch.randn(1, 8, 8, attention.proj.origin.shape[-1], generator=torch.Generator().manual_seed(0))
        wanted = same(tokens)
        assert float((attention(tokens) - wanted).norm() / wanted.norm()) < 2e-3
    assert float((encoder(x) - before(x)).norm() / before(x).norm()) < 0.05
    assert fold_into_values(encoder) == 0


def test_values_that_are_rounded_themselves_are_left_alone():
    encoder, images = tiny_encoder(), list(shapes(2, 64, 0)[:, None] - 0.5)
    quantize_encoder(encoder, encoder.sites(), images, len(images), QuantConfig.of("W8A8"))
    assert fold_into_values(encoder) == 0
