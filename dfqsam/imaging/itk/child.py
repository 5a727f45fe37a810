"""The process that reads NRRD and MetaImage: a file on standard input, its voxels on standard output (see reading.py).

ITK opens files by their names; the bytes are given one in memory, or where there is none such, in a temporary folder.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 8 << 30
READERS = {"NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}


def _limit() -> None:
    with suppress(ImportError, ValueError, OSError):  # not on Windows
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would be a copy of the picture


def _image(kind: str, path: str) -> Any:
    import SimpleITK as sitk  # noqa: N813 (its own documentation's name)

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(READERS[kind])
    reader.SetFileName(path)
    return reader.Execute()


def _read(kind: str, data: bytes) -> Any:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("study")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            return _image(kind, f"/proc/self/fd/{descriptor}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, {"NRRD": "study.nrrd", "MetaImage": "study.mha"}[kind])
        path.write_bytes(data)
        return _image(kind, str(path))


def main() -> None:
    """Read one file: a line with its kind, and its bytes. Answer with a line of JSON and the voxels; end with 1 where
    it cannot be read."""
    # Libraries may print; the pipe is for the answer alone.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    kind = sys.stdin.buffer.readline().decode("ascii").strip()
    data = sys.stdin.buffer.read()
    _limit()
    try:
        import SimpleITK as sitk  # noqa: N813

        image = _read(kind, data)
        voxels = np.ascontiguousarray(sitk.GetArrayViewFromImage(image))
        answer = {
            "dtype": voxels.dtype.str,
            "shape": voxels.shape,
            "components": image.GetNumberOfComponentsPerPixel(),
            "spacing": image.GetSpacing(),
            "origin": image.GetOrigin(),
            "direction": image.GetDirection(),
        }
    except Exception:  # whatever ITK raises: the other side says it in one sentence
        os._exit(1)
    out.write(json.dumps(answer).encode() + b"\n")
    out.write(voxels.data)
    out.flush()
    out.close()


if __name__ == "__main__":
    main()
