"""Where a figure was measured: versions, threads and processor, in words that mean something elsewhere."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch

from dfqsam import __version__
from dfqsam.processor import processor_features

LIBRARIES = ("torch", "numpy", "opencv-python-headless", "segment-anything")


def machine() -> dict[str, Any]:
    """Versions of Python and libraries, threads, architecture and processor features; no name of a host or user."""
    return {
        "versions": {
            "dfqsam": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in LIBRARIES},
        },
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": processor_features(),
    }
