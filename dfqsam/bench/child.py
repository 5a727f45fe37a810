"""One model in a process of its own, without torch: loaded, then run once for every line that arrives.

    python -m dfqsam.bench.child ENGINE MODEL INPUTS.npz THREADS

Writes a line of JSON when the model is loaded, one for every run, and one with the peak of memory at the end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ENGINES = ("onnxruntime", "openvino-f32", "openvino-bf16", "predictor", "predictor-fp32")
Run = Callable[[dict[str, Any]], object]


def peak_megabytes(source: Path = Path("/proc/self/status")) -> float | None:
    """The most memory that this process has held, in MB (10^6 bytes); None where Linux does not say."""
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), None)


def load(engine: str, model: Path, threads: int) -> Run:
    """Something that computes all outputs of ``model`` from its inputs by name."""
    if engine == "onnxruntime":
        from dfqsam.runtime.sessions import session

        loaded = session(str(model), threads)
        return lambda inputs: loaded.run(None, inputs)
    if engine.startswith("openvino"):
        import openvino  # pyright: ignore[reportMissingImports]

        precision = engine.removeprefix("openvino-")
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        request = openvino.Core().compile_model(str(model), "CPU", settings).create_infer_request()
        return lambda inputs: request.infer(inputs)
    from dfqsam.runtime import Predictor

    predictor = Predictor(model, full_precision=engine.endswith("fp32"), threads=threads, check_device=False)

    def first_mask(inputs: dict[str, Any]) -> object:
        predictor.set_image(inputs["image"])
        side = len(inputs["image"]) / 4
        if "box" in predictor.bundle.manifest.prompts:
            return predictor.predict(box=[side, side, 3 * side, 3 * side])
        return predictor.predict([[2 * side, 2 * side]], [1])

    return first_mask


def main(arguments: list[str]) -> None:
    engine, model, source, threads = arguments
    with np.load(source) as file:
        inputs = {name: file[name] for name in file.files}
    begin = time.perf_counter()
    run = load(engine, Path(model), int(threads))
    print(json.dumps({"load": time.perf_counter() - begin}), flush=True)
    for _line in sys.stdin:
        begin = time.perf_counter()
        run(inputs)
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)
    print(json.dumps({"peak": peak_megabytes(), "torch": "torch" in sys.modules}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
