"""A toy model whose masks can be worked out by hand, and folders of pictures to ask it about.

The decoder fills the box, less ``shrink`` pixels on each side; the encoder makes ``shrink`` of the picture's
brightness. 64 px in, so that pictures of 64 x 64 are not resized. For a click it fills the square that reaches 8 pixels
from it.
"""

import csv
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dfqsam.bundle import Bundle, write_bundle

SIDE, REACH = 64, 8.0
FLOAT = TensorProto.FLOAT


def _model(nodes, inputs, outputs, constants) -> bytes:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def encoder(gain: float) -> bytes:
    """Embedding 1 x 1 x 16 x 16, ``gain`` times the picture's mean (0 to 1) everywhere."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["shrink"]),
        helper.make_node("Expand", ["shrink", "shape"], ["embedding"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["h", "w", 3])]
    outputs = [helper.make_tensor_value_info("embedding", FLOAT, [1, 1, 16, 16])]
    constants = {"gain": np.float32(gain / 255), "shape": np.array([1, 1, 16, 16])}
    return _model(nodes, inputs, outputs, constants)


def decoder() -> bytes:
    """Logits of 4 equal masks: depth inside the box (or the square around a click) less the embedding, plus a half."""
    nodes = [
        helper.make_node("ReduceMax", ["embedding"], ["shrink"], keepdims=0),
        helper.make_node("Slice", ["point_coords", "zero", "one", "axis"], ["first"]),
        helper.make_node("Slice", ["point_coords", "one", "two", "axis"], ["second"]),
        helper.make_node("Slice", ["point_labels", "zero", "one", "axis"], ["label"]),
        helper.make_node("Equal", ["label", "corner"], ["boxed"]),
        helper.make_node("Unsqueeze", ["boxed", "two"], ["box"]),
        helper.make_node("Sub", ["first", "reach"], ["low"]),
        helper.make_node("Add", ["first", "reach"], ["high"]),
        helper.make_node("Where", ["box", "first", "low"], ["from"]),
        helper.make_node("Where", ["box", "second", "high"], ["to"]),
        helper.make_node("Sub", ["grid", "from"], ["past"]),
        helper.make_node("Sub", ["to", "grid"], ["before"]),
        helper.make_node("Min", ["past", "before"], ["inside"]),
        helper.make_node("ReduceMin", ["inside", "last"], ["depth"], keepdims=0),
        helper.make_node("Sub", ["depth", "shrink"], ["less"]),
        helper.make_node("Add", ["less", "half"], ["logit"]),
        helper.make_node("Reshape", ["logit", "plane"], ["single"]),
        helper.make_node("Concat", ["single"] * 4, ["planes"], axis=1),
        # The mask prompt is taken and ignored, as every input has to be used.
        helper.make_node("ReduceMax", ["mask_input"], ["m"], keepdims=0),
        helper.make_node("ReduceMax", ["has_mask_input"], ["h"], keepdims=0),
        helper.make_node("Mul", ["m", "h"], ["mh"]),
        helper.make_node("Mul", ["mh", "nothing"], ["none"]),
        helper.make_node("Add", ["planes", "none"], ["low_res_logits"]),
        helper.make_node("Add", ["quality", "none"], ["iou_predictions"]),
    ]
    inputs = [
        helper.make_tensor_value_info("embedding", FLOAT, [1, 1, 16, 16]),
        helper.make_tensor_value_info("point_coords", FLOAT, [1, "n", 2]),
        helper.make_tensor_value_info("point_labels", FLOAT, [1, "n"]),
        helper.make_tensor_value_info("mask_input", FLOAT, [1, 1, SIDE, SIDE]),
        helper.make_tensor_value_info("has_mask_input", FLOAT, [1]),
    ]
    outputs = [
        helper.make_tensor_value_info("low_res_logits", FLOAT, [1, 4, SIDE, SIDE]),
        helper.make_tensor_value_info("iou_predictions", FLOAT, [1, 4]),
    ]
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    constants = {
        "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "axis": np.array([1]),
        "last": np.array([2]), "corner": np.float32(2), "reach": np.float32(REACH), "half": np.float32(0.5),
        "grid": np.stack([columns, rows], -1).reshape(1, -1, 2), "plane": np.array([1, 1, SIDE, SIDE]),
        "nothing": np.float32(0), "quality": np.full((1, 4), 0.9, np.float32),
    }  # fmt: skip
    return _model(nodes, inputs, outputs, constants)


def toy_bundle(path: Path, shrink: float, *, full: bool = True, prompts=("box",), checkpoint: str = "0" * 64) -> Bundle:
    """Full precision fills the box; quantized is ``shrink`` pixels smaller on each side, times the brightness."""
    files = {"encoder.onnx": encoder(shrink), "decoder.onnx": decoder()}
    if full:
        files |= {"encoder_fp32.onnx": encoder(0), "decoder_fp32.onnx": decoder()}
    model = {"family": "toy", "title": "Toy", "image_size": SIDE, "checkpoint_sha256": checkpoint, "licence": "none"}
    return write_bundle(
        path,
        files,
        model=model,
        preprocessing={},
        prompts=prompts,
        profile="w8a8",
        quantization={},
        calibration={},
        provenance={},
        versions={},
    )


def square(top: int = 20, left: int = 20, side: int = 20) -> np.ndarray:
    """A mask of 64 x 64, 255 inside."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


def write_manifest(folder: Path, patients: dict[str, list[int]], dataset: str = "clinic", label: str = "organ") -> Path:
    """A picture of one brightness (0 to 255) for each number of each patient, with two squares to find in it."""
    (folder / dataset).mkdir(parents=True, exist_ok=True)
    rows = []
    for patient, levels in patients.items():
        for i, level in enumerate(levels):
            image = f"{dataset}/{patient}-{i}.png"
            cv2.imwrite(str(folder / image), np.full((SIDE, SIDE), level, np.uint8))
            for j, mask in enumerate((square(), square(5, 30, 16))):
                name = f"{dataset}/{patient}-{i}__{j}.png"
                cv2.imwrite(str(folder / name), mask)
                row = {"dataset": dataset, "modality": "CT", "patient_or_group": patient, "image": image, "mask": name}
                rows.append({**row, "label": label, "split": "validation"})
    path = folder / "manifest.csv"
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        if new:
            writer.writeheader()
        writer.writerows(rows)
    return folder
