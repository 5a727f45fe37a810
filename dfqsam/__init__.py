"""dfqsam: data-free quantization of Segment Anything models for medical images."""

__version__ = "0.1.0"
