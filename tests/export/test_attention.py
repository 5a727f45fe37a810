"""The form of attention that is exported, and the measurement that it rests on."""

import hashlib
import json
from dataclasses import astuple

import pytest
import torch

from dfqsam.assets import attention_products
from dfqsam.bench.products import SHAPES
from dfqsam.config import QuantConfig
from dfqsam.export.attention import attention_shapes, decision
from dfqsam.quant.encoder import quantize_encoder
from dfqsam.sam.families import FAMILIES
from dfqsam.sam.tinyvit import TinyViT, TinyViTConfig
from dfqsam.sam.vit import ViT, ViTConfig
from tests.small import tiny_encoder


def encoder_of(family, size: int) -> torch.nn.Module:
    """Of the exact shapes, without memory."""
    with torch.device("meta"):
        if not family.is_vit:
            return TinyViT(TinyViTConfig(size, family.patch_stride)).eval()
        sizes = {"width": family.width, "depth": family.depth, "heads": family.heads}
        return ViT(ViTConfig(size, global_blocks=family.global_blocks, **sizes)).eval()


def test_every_shape_of_every_family_was_measured_and_none_is_faster_on_integers():
    document = json.loads(attention_products().read_bytes())
    rows = {(r["batch"], r["queries"], r["keys"], r["heads"], r["size"]): r for r in document["shapes"]}
    met = set()
    alike = {(f.width, f.depth, f.image_sizes): f for f in FAMILIES.values()}  # MedSAM has the shapes of SAM ViT-B
    for family in alike.values():
        for size in family.image_sizes:
            met |= set(attention_shapes(encoder_of(family, size), size))
    assert met <= set(rows)
    assert {astuple(shape)[1:] for shape in SHAPES} == set(rows)  # the file is of the shapes that are measured now
    assert all(row["ratio"] > 1 for row in rows.values())
    assert all(
        row["ratio"] == pytest.approx(row["seconds"]["integer"] / row["seconds"]["float"], 1e-2)
        for row in rows.values()
    )
    assert document["command"].startswith("python -m dfqsam.bench.products")
    assert document["machine"]["versions"]["onnxruntime"]


def test_shapes_by_hand_of_a_quantized_encoder_that_is_left_as_it_is():
    encoder = tiny_encoder()
    quantize_encoder(encoder, encoder.sites(), [torch.rand(1, 3, 64, 64)], 1, QuantConfig.of("w8a8"))
    # 64 px: grids of 32, 16 and 16 tokens; windows of 7, 14 and 7; 2 heads of 16, 16 and 32 channels.
    expected = {(25, 49, 49, 2, 16): 1, (4, 196, 196, 2, 16): 1, (9, 49, 49, 2, 32): 1}
    assert attention_shapes(encoder, 64) == expected
    assert all(value.device.type == "cpu" for value in encoder.state_dict().values())
    assert not any(module.fused for module in encoder.modules() if hasattr(module, "fused"))


def test_a_manifest_names_the_file_its_figures_and_what_was_not_measured():
    found = decision(encoder_of(FAMILIES["lite-medsam"], 256), 256)
    assert found["computed_in"] == "float32"
    assert found["decided_by"]["sha256"] == hashlib.sha256(attention_products().read_bytes()).hexdigest()
    assert [(s["windows"], s["count"]) for s in found["shapes"]] == [(361, 2), (25, 6), (100, 2)]
    assert all(shape["integer_over_float"] > 1 for shape in found["shapes"])
    assert {s["integer_over_float"] for s in decision(tiny_encoder(), 64)["shapes"]} == {None}
    json.dumps(found)
