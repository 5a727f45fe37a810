"""A copy of a bundle whose encoder has been spoilt: the integer weights keep few bits, and the hashes are made anew."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from dfqsam.bundle import Bundle, write_bundle


def damaged(bundle: Bundle, target: Path, bits: int = 2) -> Bundle:
    """Weights of 8 bits are rounded to multiples of 128 >> (bits - 1): five levels with 2 bits."""
    model = onnx.load_model_from_string(bundle.read("encoder.onnx"))
    step, changed = 128 >> (bits - 1), 0
    for initializer in model.graph.initializer:
        if initializer.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8) and len(initializer.dims) >= 2:
            values = numpy_helper.to_array(initializer)
            middle = 0 if values.dtype == np.int8 else 128
            coarse = np.rint((values.astype(np.int32) - middle) / step) * step
            limits = np.iinfo(values.dtype)
            spoilt = np.clip(coarse + middle, limits.min, limits.max).astype(values.dtype)
            changed += int((spoilt != values).sum())
            initializer.CopyFrom(numpy_helper.from_array(spoilt, initializer.name))
    assert changed
    manifest = bundle.manifest
    files = {name: bundle.read(name) for name in manifest.files}
    files["encoder.onnx"] = model.SerializeToString(deterministic=True)
    return write_bundle(
        target,
        files,
        model=vars(manifest.model),
        preprocessing=manifest.preprocessing,
        prompts=manifest.prompts,
        profile=f"w{bits}-damaged",
        quantization=manifest.quantization,
        calibration=manifest.calibration,
        provenance=manifest.provenance,
        versions=manifest.versions,
    )
