"""dfqsam: data-free quantization of Segment Anything models for medical images."""

import os

# ONNX Runtime 1.29 and later report usage to their maker unless this is set before the library loads. Whatever of
# dfqsam is imported first, it is set here, ahead of it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
