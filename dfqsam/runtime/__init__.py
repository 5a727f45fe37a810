"""Running a bundle with numpy, OpenCV and ONNX Runtime alone; what an edge device imports.

ONNX Runtime 1.29 and later report usage to their maker unless this variable is set before the library loads, so it is
set here, ahead of every import; nothing else in the package imports onnxruntime.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from dfqsam.runtime.predictor import Predictor
from dfqsam.runtime.selftest import self_test

__all__ = ["Predictor", "self_test"]
