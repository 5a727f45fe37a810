import os
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

from dfqsam.errors import CheckpointError
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.families import FAMILIES, recognise
from dfqsam.sam.model import load_sam
from dfqsam.sam.random_weights import random_state


def sam_state(family) -> dict[str, torch.Tensor]:
    """Every key and shape of the published checkpoint of a ViT family; empty tensors that take no memory."""
    with torch.device("meta"):
        return random_state(family)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A whole SAM of the ViT-B kind at 256 px by key names, without adapters."""
    return {key: value for key, value in sam_state(FAMILIES["sam-med2d"]).items() if ".Adapter." not in key}


@pytest.mark.parametrize("name", ["sam-vit-b", "sam-vit-l", "sam-vit-h"])
def test_families_are_recognised_by_the_exact_published_shapes(name):
    assert recognise(sam_state(FAMILIES[name])).name == name


def test_sam_med2d_is_recognised_by_its_grid_or_its_adapters(state):
    assert recognise(state).name == "sam-med2d"
    large = sam_state(FAMILIES["sam-vit-b"])
    assert recognise({**large, "image_encoder.blocks.0.Adapter.norm.weight": torch.ones(768)}).name == "sam-med2d"


def test_family_can_be_overridden_where_the_shapes_allow_it():
    large = sam_state(FAMILIES["sam-vit-b"])
    assert recognise(large, "medsam").prompts == ("box",)
    with pytest.raises(CheckpointError, match="shapes of SAM ViT-B, not of SAM ViT-H"):
        recognise(large, "sam-vit-h")
    with pytest.raises(CheckpointError, match="no family 'sam2'"):
        recognise(large, "sam2")


def test_another_model_is_refused():
    with pytest.raises(CheckpointError, match="no Segment Anything model"):
        recognise({"conv1.weight": torch.zeros(1)})


def small() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"image_encoder.a": torch.randn(2, 3), "mask_decoder.b": torch.randn(4)}


@pytest.mark.parametrize("wrap", [dict, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappings_and_prefixes_are_undone(tmp_path, wrap, prefix):
    path = tmp_path / "a.pth"
    torch.save(wrap({prefix + key: value for key, value in small().items()}), path)
    read = read_state(path)
    assert read.keys() == small().keys()
    assert all(torch.equal(read[key], value) for key, value in small().items())


def test_safetensors_are_read(tmp_path):
    save_file(small(), tmp_path / "a.safetensors")
    assert read_state(tmp_path / "a.safetensors").keys() == small().keys()


def hugging_face_name(key: str) -> str:
    """SAM's key as transformers spells it: the inverse direction, written independently."""
    mlp = re.match(r"mask_decoder\.(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.(\d)\.(.*)", key)
    if mlp:
        part = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}[mlp[2]]
        return f"mask_decoder.{mlp[1]}.{part}.{mlp[3]}"
    for ours, theirs in {
        "image_encoder.neck.0": "vision_encoder.neck.conv1",
        "image_encoder.neck.1": "vision_encoder.neck.layer_norm1",
        "image_encoder.neck.2": "vision_encoder.neck.conv2",
        "image_encoder.neck.3": "vision_encoder.neck.layer_norm2",
        "image_encoder.patch_embed.proj": "vision_encoder.patch_embed.projection",
        "image_encoder.blocks": "vision_encoder.layers",
        "image_encoder.": "vision_encoder.",
        "prompt_encoder.point_embeddings": "prompt_encoder.point_embed",
        "prompt_encoder.mask_downscaling.0": "prompt_encoder.mask_embed.conv1",
        "prompt_encoder.mask_downscaling.1": "prompt_encoder.mask_embed.layer_norm1",
        "prompt_encoder.mask_downscaling.3": "prompt_encoder.mask_embed.conv2",
        "prompt_encoder.mask_downscaling.4": "prompt_encoder.mask_embed.layer_norm2",
        "prompt_encoder.mask_downscaling.6": "prompt_encoder.mask_embed.conv3",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": "shared_image_embedding.positional_embedding",
        "mask_decoder.output_upscaling.0": "mask_decoder.upscale_conv1",
        "mask_decoder.output_upscaling.1": "mask_decoder.upscale_layer_norm",
        "mask_decoder.output_upscaling.3": "mask_decoder.upscale_conv2",
    }.items():
        if key.startswith(ours):
            key = key.replace(ours, theirs)
            break
    key = key.replace("norm_final_attn", "layer_norm_final_attn")
    return re.sub(r"(layers\.\d+)\.norm(\d)", r"\1.layer_norm\2", key)


def test_hugging_face_names_are_mapped_one_to_one(tmp_path, state):
    tensors = {key: torch.full((1,), float(i)) for i, key in enumerate(state)}
    theirs = {hugging_face_name(key): value for key, value in tensors.items()}
    assert "vision_encoder.layers.0.layer_norm1.weight" in theirs
    assert "mask_decoder.transformer.layers.1.layer_norm4.bias" in theirs
    theirs["prompt_encoder.shared_embedding.positional_embedding"] = theirs[
        "shared_image_embedding.positional_embedding"
    ]
    torch.save(theirs, tmp_path / "hf.bin")
    assert read_state(tmp_path / "hf.bin") == tensors


class Gadget:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",))


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_that_wants_to_run_code_is_refused_and_nothing_runs(tmp_path, writer):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    writer({"image_encoder.a": Gadget(str(marker))}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        read_state(path)
    assert not marker.exists()


def test_damaged_and_foreign_files_get_one_sentence(tmp_path):
    whole = tmp_path / "whole.pth"
    torch.save(small(), whole)
    save_file(small(), tmp_path / "whole.safetensors")
    files = {
        "cut.pth": whole.read_bytes()[:200],
        "cut.safetensors": (tmp_path / "whole.safetensors").read_bytes()[:20],
        "empty.pth": b"",
        "empty.safetensors": b"",
        "text.pth": b"hello, this is no checkpoint\n" * 9,
        "picture.png": b"\x89PNG",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError) as error:
            read_state(tmp_path / name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)
    for path, words in ((tmp_path / "none.pth", "There is no checkpoint"), (tmp_path, "is a directory")):
        with pytest.raises(CheckpointError, match=words):
            read_state(path)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        read_state(tmp_path / "list.pth")


def test_missing_unexpected_and_misshapen_keys_get_one_sentence():
    whole = {key: value for key, value in random_state(FAMILIES["sam-med2d"]).items() if ".Adapter." not in key}
    cases = {
        "neck.0.weight": {k: v for k, v in whole.items() if k != "image_encoder.neck.0.weight"},
        "extra": {**whole, "mask_decoder.extra": torch.zeros(1)},
        "optimizer.step": {**whole, "optimizer.step": torch.zeros(1)},
        "size mismatch": {**whole, "image_encoder.blocks.3.mlp.lin1.weight": torch.zeros(5, 768)},
    }
    for words, state in cases.items():
        with pytest.raises(CheckpointError, match=re.escape(words)) as error:
            load_sam(state)
        assert "\n" not in str(error.value)
    sam = load_sam(whole)
    assert sam.embed(torch.rand(1, 3, 256, 190)).shape == (1, 256, 16, 16)
    with pytest.raises(CheckpointError, match="does not come in 300 px"):
        load_sam(whole, image_size=300)
