"""What OpenVINO makes of an encoder's graph, in single precision, in a process of its own.

python tests/export/in_openvino.py MODEL.onnx IMAGE.npy OUTPUT.npz
"""

import sys

import numpy as np
import openvino  # pyright: ignore[reportMissingImports]


def main(model: str, image: str, output: str) -> None:
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", exact)
    found = compiled(np.load(image))
    np.savez(output, **{name: value for port, value in found.items() for name in port.get_names()})


if __name__ == "__main__":
    main(*sys.argv[1:])
