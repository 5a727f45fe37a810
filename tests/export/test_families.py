"""Every family's architecture from model to bundle: what the tests of the first two kinds leave out."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dfqsam.cli import app
from dfqsam.config import QuantConfig
from dfqsam.export.census import kernels, require_kernels
from dfqsam.export.graphs import EncoderGraph
from dfqsam.export.parity import encoder_parity
from dfqsam.export.trace import export_encoder
from dfqsam.quant.encoder import quantize_encoder, quantized_layers
from dfqsam.runtime import Predictor, self_test
from dfqsam.synth.shapes import shapes
from tests.small_bundle import small_bundle, small_sam


@pytest.mark.parametrize(("family", "size"), [("mobile-sam", 128), ("sam-med2d", 64)])
def test_an_encoder_runs_on_integer_kernels_and_in_lockstep(family, size):
    sam = small_sam(family, size)
    images = [sam.normalise(shapes(1, size, 0))]
    names = quantize_encoder(sam.encoder, sam.sites(), images, 1, QuantConfig.of("w8a8"))
    graph = EncoderGraph(sam.encoder, sam.normalise)
    model = export_encoder(graph, size)
    picture = np.random.default_rng(0).integers(0, 256, (size, size - 9, 3), dtype=np.uint8)
    assert encoder_parity(model, graph, picture).worst[1] < 1e-5
    found = kernels(model.SerializeToString())
    assert set(found) == set(names) == set(quantized_layers(sam.encoder))
    require_kernels(found, names, None)


@pytest.mark.parametrize(("profile", "moved", "left"), [("w8a8", False, 0.8), ("w4a4", True, 0.9)])
def test_uneven_channels_before_an_adapters_convolution_are_made_alike_in_the_graph_too(profile, moved, left):
    sam = small_sam("sam-med2d", 64)
    with torch.no_grad():
        for block in sam.encoder.blocks:
            block.norm2.weight[::7] *= 40
    images = [sam.normalise(shapes(1, 64, seed)) for seed in range(2)]
    reference = copy.deepcopy(sam.encoder)
    plain = copy.deepcopy(sam.encoder)
    config = QuantConfig.of(profile, "plain")
    quantize_encoder(plain, sam.sites(), images, 1, replace(config, channel_scales=False))
    quantize_encoder(sam.encoder, sam.sites(), images, 1, config)
    layer = sam.encoder.blocks[0].Adapter.down
    assert layer.divisor is not None
    assert (layer.center is not None) is moved
    errors = [float((encoder(images[0]) - reference(images[0])).norm()) for encoder in (sam.encoder, plain)]
    assert errors[0] < left * errors[1]
    graph = EncoderGraph(sam.encoder, sam.normalise)
    picture = np.random.default_rng(0).integers(0, 256, (64, 55, 3), dtype=np.uint8)
    assert encoder_parity(export_encoder(graph, 64), graph, picture).worst[1] < 1e-5


def test_a_size_only_bundle_of_a_vit_with_adapters_segments_and_proves_itself(tmp_path):
    sam = small_sam("sam-med2d", 64)
    bundle = small_bundle(tmp_path / "bundle", sam, QuantConfig.of("w4-only"))
    manifest = bundle.manifest
    assert (manifest.profile, manifest.quantization["block"]) == ("w4-only", 32)
    assert manifest.quantization["activation_bits"] is None
    assert manifest.quantization["full_precision"].startswith("all activations, convolutions other than 1x1")
    assert {s["computed_in"] for s in manifest.quantization["attention_products"]["shapes"]} == {"float32"}
    assert manifest.quantization["parity"]["end_to_end"] < 1e-4
    predictor = Predictor(bundle)
    report = self_test(predictor)
    assert report is not None
    assert report.passed
    predictor.set_image(np.full((48, 64, 3), 90, np.uint8))
    masks, _, _ = predictor.predict([[20, 20]], [1])
    assert masks.shape == (1, 48, 64)
    result = CliRunner().invoke(app, ["inspect", str(bundle.path), "--kernels", "--json"])
    assert result.exit_code == 0
    assert set(json.loads(result.stdout).values()) == {"MatMulNBits"}
