"""Running a bundle with numpy, OpenCV and ONNX Runtime alone; what an edge device imports."""

from dfqsam.runtime.predictor import Predictor
from dfqsam.runtime.selftest import self_test

__all__ = ["Predictor", "self_test"]
