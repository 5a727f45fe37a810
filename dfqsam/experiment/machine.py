"""Where a figure was measured: versions, threads and processor, in words that mean something elsewhere."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from dfqsam import __version__

# Instructions that decide how integer and float sums are computed, and so the last digits of a figure.
TELLING = ("avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "sve")
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


def processor_features(source: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The features of ``TELLING`` that the processor has; what torch dispatches on where Linux's list is missing."""
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return [torch.backends.cpu.get_cpu_capability().lower()]
    found = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    return [name for name in TELLING if name in found]
