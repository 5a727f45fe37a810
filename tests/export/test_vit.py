import numpy as np
import pytest
import torch

from dfqsam.config import QuantConfig
from dfqsam.export.census import census, kernels
from dfqsam.export.graphs import EncoderGraph
from dfqsam.export.parity import encoder_parity
from dfqsam.export.trace import export_encoder
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.sam.model import scale
from dfqsam.sam.preprocessing import SAM
from dfqsam.sam.vit import Attention, ViT, ViTConfig

CONFIG = ViTConfig(image_size=256, width=64, depth=2, heads=2, global_blocks=(1,), rows_per_chunk=5)


def quantized_vit() -> EncoderGraph:
    torch.manual_seed(0)
    encoder = ViT(CONFIG).eval().requires_grad_(False)
    encoder.pos_embed.normal_()
    for module in encoder.modules():
        if isinstance(module, Attention):
            module.rel_pos_h.normal_()
            module.rel_pos_w.normal_()
            module.qkv_pad.copy_(module.qkv.bias)
    images = [torch.randn(1, 3, 256, 256)]
    quantize_encoder(encoder, encoder.sites(), images, 1, QuantConfig.of("w4a8"))

    def normalise(pixels: torch.Tensor) -> torch.Tensor:
        seen = scale(pixels, SAM)
        return torch.nn.functional.pad(seen, (0, 256 - seen.shape[3], 0, 256 - seen.shape[2]))

    return EncoderGraph(encoder, normalise)


@pytest.fixture(scope="module")
def graph() -> EncoderGraph:
    return quantized_vit()


def test_a_vit_with_windows_chunks_and_biases_runs_on_integer_kernels_and_in_lockstep(graph):
    model = export_encoder(graph, 256)
    picture = np.random.default_rng(0).integers(0, 256, (256, 130, 3), dtype=np.uint8)
    assert encoder_parity(model, graph, picture).worst[1] < 1e-5
    found, counts = kernels(model.SerializeToString()), census(model.SerializeToString())
    assert len(found) == 4 * CONFIG.depth + 2  # the 3x3 convolution of the neck is one too
    assert set(found.values()) == {"MatMulIntegerToFloat"}
    assert counts["MatMulIntegerToFloat"] == len(found) + 2 * CONFIG.depth  # queries, keys and values are three
    assert counts["Attention"] >= CONFIG.depth
    assert "Einsum" not in counts
