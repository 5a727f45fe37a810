"""What the processor can do, in words that mean something elsewhere."""

from __future__ import annotations

from pathlib import Path

# Instructions that decide how integer and float sums are computed, and so the last digits of a figure, and how fast.
TELLING = (
    "avx2",
    "fma",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "sve",
)


def processor_features(source: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The features of :data:`TELLING` that the processor has; none where the list of Linux is missing."""
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return []
    found = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    return [name for name in TELLING if name in found]
