"""The process that decodes: DICOM files on standard input, frames on standard output (see worker.py)."""

from __future__ import annotations

import io
import json
import logging
import os
import struct
import sys
import warnings

import numpy as np

from dfqsam.imaging.dicom.worker import MEMORY, receive, send


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would be a copy of the picture


def main() -> None:
    """Answer until standard input ends."""
    # Decoders may print; the pipe is for answers alone.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    from pydicom.pixels.utils import iter_pixels
    from pydicom.uid import UID

    _limit_memory()
    while True:
        try:
            (frames,) = struct.unpack(">I", receive(sys.stdin.buffer, 4))
            file = receive(sys.stdin.buffer, 1 << 32)
        except (EOFError, ValueError):
            return
        syntax, sent = "unknown", 0
        try:
            import pydicom

            dataset = pydicom.dcmread(io.BytesIO(file), force=True)
            syntax = UID(dataset.file_meta.TransferSyntaxUID).name
            for frame in iter_pixels(dataset):
                if sent < frames:
                    answer = {"dtype": frame.dtype.str, "shape": frame.shape}
                    send(out, json.dumps(answer).encode(), np.ascontiguousarray(frame).tobytes())
                    sent += 1
        except Exception:  # whatever a decoder raises: the other side says it in one sentence
            pass
        if sent < frames:
            send(out, json.dumps({"syntax": syntax[:100]}).encode())


if __name__ == "__main__":
    main()
