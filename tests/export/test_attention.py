"""The form of attention that is exported, and the measurement that it rests on."""

import hashlib
import json
from dataclasses import astuple

import pytest
import torch

from dfqsam.assets import attention_products
from dfqsam.bench.products import SHAPES
from dfqsam.config import QuantConfig
from dfqsam.export.attention import WORTH, attention_shapes, choose_products, decision, whole_on_integers
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


def test_every_shape_of_every_family_was_measured():
    document = json.loads(attention_products().read_bytes())
    rows = {(r["batch"], r["queries"], r["keys"], r["heads"], r["size"]): r for r in document["shapes"]}
    met = set()
    alike = {(f.width, f.depth, f.image_sizes): f for f in FAMILIES.values()}  # MedSAM has the shapes of SAM ViT-B
    for family in alike.values():
        for size in family.image_sizes:
            met |= set(attention_shapes(encoder_of(family, size), size))
    assert met <= set(rows)
    assert {astuple(shape)[1:6] for shape in SHAPES} == set(rows)  # the file is of the shapes that are measured now
    assert all(
        row["ratio"] == pytest.approx(row["seconds"]["integer"] / row["seconds"]["float"], 1e-2)
        for row in rows.values()
    )
    assert document["command"].startswith("python -m dfqsam.bench.products")
    assert document["machine"]["versions"]["onnxruntime"]


@pytest.mark.parametrize(("size", "on_integers"), [(1024, True), (256, False)])
def test_integers_are_taken_where_they_were_faster(size, on_integers):
    encoder = encoder_of(FAMILIES["sam-vit-b"], size)
    choose_products(encoder)
    assert whole_on_integers(encoder) is on_integers
    shapes = decision(encoder, size)["shapes"]
    for shape in shapes:
        whole = shape["queries"] == shape["keys"] > 196
        assert shape["computed_in"] == ("8 bits" if whole and shape["integer_over_float"] <= WORTH else "float32")
    assert {s["computed_in"] for s in shapes} == ({"8 bits", "float32"} if on_integers else {"float32"})
    assert [s["count"] for s in shapes if s["queries"] == s["keys"] > 196] == [4]


def test_shapes_that_nobody_measured_stay_in_floating_point(tmp_path, monkeypatch):
    encoder = encoder_of(FAMILIES["sam-vit-b"], 1024)
    choose_products(encoder)
    nothing = json.loads(attention_products().read_bytes()) | {"shapes": []}
    (tmp_path / "none.json").write_text(json.dumps(nothing))
    monkeypatch.setattr("dfqsam.export.attention.attention_products", lambda: tmp_path / "none.json")
    choose_products(encoder)
    assert not whole_on_integers(encoder)


def test_shapes_by_hand_of_a_quantized_encoder_that_is_left_as_it_is():
    encoder = tiny_encoder()
    quantize_encoder(encoder, encoder.sites(), [torch.rand(1, 3, 64, 64)], 1, QuantConfig.of("w8a8"))
    # 64 px: grids of 32, 16 and 16 tokens; windows of 7, 14 and 7; 2 heads of 16, 16 and 32 channels.
    # Whole windows, those that an edge cuts (twice as many calls, down and across) and the corner.
    first = {(16, 49, 49, 2, 16): 1, (4, 28, 49, 2, 16): 2, (1, 16, 49, 2, 16): 1}
    second = {(1, 196, 196, 2, 16): 1, (1, 28, 196, 2, 16): 2, (1, 4, 196, 2, 16): 1}
    third = {(4, 49, 49, 2, 32): 1, (2, 14, 49, 2, 32): 2, (1, 4, 49, 2, 32): 1}
    expected = first | second | third
    assert attention_shapes(encoder, 64) == expected
    assert all(value.device.type == "cpu" for value in encoder.state_dict().values())
    assert not any(module.fused for module in encoder.modules() if hasattr(module, "fused"))


def test_a_manifest_names_the_file_its_figures_and_what_was_not_measured():
    found = decision(encoder_of(FAMILIES["lite-medsam"], 256), 256)
    assert {s["computed_in"] for s in found["shapes"]} == {"float32"}
    assert found["decided_by"]["sha256"] == hashlib.sha256(attention_products().read_bytes()).hexdigest()
    assert [(s["windows"], s["queries"], s["count"]) for s in found["shapes"]] == [
        *((324, 49, 2), (18, 14, 4), (1, 4, 2)),
        *((16, 196, 6), (4, 112, 12), (1, 64, 6)),
        *((81, 49, 2), (9, 7, 4), (1, 1, 2)),
    ]
    assert all(0.5 < shape["integer_over_float"] < 5 for shape in found["shapes"])
    assert {s["integer_over_float"] for s in decision(tiny_encoder(), 64)["shapes"]} == {None}
    json.dumps(found)
