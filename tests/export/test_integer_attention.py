"""Attention on integers: what it computes, and what becomes of it in a graph."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.config import QuantConfig
from dfqsam.export.census import census, optimized
from dfqsam.export.graphs import EncoderGraph
from dfqsam.export.integer_attention import SCORES
from dfqsam.export.parity import encoder_parity
from dfqsam.export.trace import export_encoder
from dfqsam.runtime import Predictor, self_test
from dfqsam.sam.integer_attention import QUERY_TOP, SHARE_TOP, TOP, _rounded, attention_on_integers, rows_of
from dfqsam.sam.vit import Attention, ViT, ViTConfig
from tests.small_bundle import bundle_on_integers, small_bundle, small_sam


def values(side: int, heads: int = 2, channels: int = 8, seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    tokens = side * side
    shapes = [(heads, tokens, channels)] * 3 + [(heads, tokens, side)] * 2
    return [torch.randn(shape, generator=draw) for shape in shapes]


def in_float(query, key, value, vertical, horizontal, scale):
    bias = vertical[:, :, :, None] + horizontal[:, :, None, :]
    return (scale * query @ key.mT + bias.flatten(2)).softmax(-1) @ value


def error(found, wanted) -> float:
    """Relative to what differs from token to token."""
    return float((found - wanted).norm() / (wanted - wanted.mean(1, keepdim=True)).norm())


@pytest.mark.parametrize("side", [1, 3, 16, 20])
def test_it_is_attention_but_for_eight_bits(side):
    given_values = values(side)
    found = attention_on_integers(*given_values, 0.3)
    wanted = in_float(*given_values, 0.3)
    assert found.shape == wanted.shape
    if side == 1:
        torch.testing.assert_close(found, wanted)  # one key: its value, whatever the query
    else:
        assert 1e-4 < error(found, wanted) < 0.03


def test_what_keys_and_values_have_in_common_costs_no_accuracy():
    query, key, value, *terms = values(16)
    wanted = in_float(query, key, value, *terms, 0.3)
    found = attention_on_integers(query, key + 100, value + 100, *terms, 0.3)
    assert error(found - 100, wanted) < 0.03


def test_many_small_probabilities_beside_a_large_one_are_not_lost():
    """One key takes half, 1023 others share the rest: each has a thousandth of it, less than half a step of 1/255."""
    side, channels = 32, 4
    query, key, value, vertical, horizontal = values(side, 1, channels)
    query, key, vertical, horizontal = 0 * query, 0 * key, 0 * vertical, 0 * horizontal
    query[..., 0], key[:, 0, 0] = 1, np.log(1023)
    value = value + 5
    value[:, 0] = 0  # of the key that takes half
    wanted = in_float(query, key, value, vertical, horizontal, 1.0)
    assert float(wanted.mean()) == pytest.approx(2.5, abs=0.05)
    found = attention_on_integers(query, key, value, vertical, horizontal, 1.0)
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0)


@given(st.integers(0, 10**6), st.floats(-2, 2))
@settings(max_examples=40, deadline=None)
def test_codes_fit_their_containers_and_pairs_sixteen_bits(seed, exponent):
    x = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(seed)) * 10**exponent
    for top in (QUERY_TOP, TOP):
        codes, scale = _rounded(x, (2,), top)
        assert float(codes.abs().max()) == top
        assert float((codes * scale - x).abs().max()) <= float(scale.max()) / 2 * (1 + 1e-3)
    assert 2 * TOP * max(SHARE_TOP, 128 + QUERY_TOP) <= 2**15 - 1


def test_constant_values_are_no_division_by_zero():
    ones = [torch.ones_like(x) for x in values(4)]
    torch.testing.assert_close(attention_on_integers(*ones, 1.0), ones[2])


def encoder_on_integers() -> ViT:
    """512 px: 32 x 32 tokens in strips of 8 rows, more scores than are computed at a time."""
    torch.manual_seed(0)
    config = ViTConfig(image_size=512, width=160, depth=1, heads=10, global_blocks=(0,))
    encoder = ViT(config).eval().requires_grad_(False)
    encoder.pos_embed.normal_()
    attention = encoder.get_submodule("blocks.0.attn")
    assert isinstance(attention, Attention)
    attention.rel_pos_h.normal_(std=0.5)
    attention.rel_pos_w.normal_(std=0.5)
    attention.on_integers = True
    assert config.heads * rows_of(32) * 32 * 32**2 > SCORES
    return encoder


def padded(pixels):
    return torch.nn.functional.pad(pixels, (0, 512 - pixels.shape[3], 0, 512 - pixels.shape[2]))


def test_a_graph_computes_the_same_on_integer_kernels_in_pieces():
    encoder = encoder_on_integers()
    graph = EncoderGraph(encoder, padded)
    model = export_encoder(graph, 512)
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    parity = encoder_parity(model, graph, picture)
    assert parity.worst[1] < 1e-4
    encoder.get_submodule("blocks.0.attn").on_integers = False
    in_floats = graph(torch.from_numpy(picture)).numpy()
    assert 1e-4 < np.linalg.norm(parity.embeddings[0] - in_floats) / np.linalg.norm(in_floats) < 0.05
    counts = census(model.SerializeToString())
    assert counts["MatMulIntegerToFloat"] == 4 * 2  # strips and parts of the heads; scores and their scale in one
    assert counts["MatMulInteger"] == 4 * 2
    order = [n.op_type for n in optimized(model.SerializeToString()).graph.node if n.op_type in ("Exp", "ReduceSum")]
    assert order == ["Exp", "ReduceSum"] * 8  # one piece after the other, so that few scores are in memory
    assert counts["Attention"] == 0
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.isfinite(np.asarray(session.run(None, {"image": picture[:1, :1] * 0})[0])).all()  # nearly all alike


def test_a_bundle_proves_itself_and_says_what_is_computed_how(tmp_path, monkeypatch):
    bundle = bundle_on_integers(tmp_path / "bundle", monkeypatch)
    said = bundle.manifest.quantization
    assert said["full_precision"].startswith("depthwise convolutions, attention products in windows")
    shapes = {(s["queries"], s["keys"]): s["computed_in"] for s in said["attention_products"]["shapes"]}
    assert shapes == {(16, 16): "8 bits", (16, 196): "float32"}
    assert said["parity"]["lockstep"] < 1e-3
    report = self_test(Predictor(bundle))
    assert report is not None
    assert report.passed


def test_activations_that_must_not_be_rounded_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr("dfqsam.export.attention._measured", lambda: {(1, 16, 16, 2, 32): 0.5})
    bundle = small_bundle(tmp_path / "bundle", small_sam("sam-vit-b", 64), QuantConfig.of("w4-only", "plain"))
    shapes = bundle.manifest.quantization["attention_products"]["shapes"]
    assert {s["computed_in"] for s in shapes} == {"float32"}
