"""Decoders of compressed pixels in a process of their own.

They are C and C++, and damaged bytes crash them, hang them or make them ask for all memory there is: of 1500 mutated
frames each, one library ended the process at a lossless JPEG, another hung at a JPEG-LS. What dies here is a child.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError

LENGTH = struct.Struct(">Q")
# A decoder that takes longer has hung: slow machines need a hundredth of it.
SECONDS, SECONDS_PER_MEGAPIXEL = 20.0, 4.0
MEMORY = 4 << 30


def send(stream: IO[bytes], *parts: bytes) -> None:
    """Write one message: its parts, each behind its length."""
    for part in parts:
        stream.write(LENGTH.pack(len(part)))
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes], limit: int) -> bytes:
    """One part of a message.

    Raises:
        EOFError: when the other side has gone.
        ValueError: when the part is longer than ``limit``.
    """
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    if length > limit:
        raise ValueError(f"a message of {length} bytes")
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


class Worker:
    """The child process; started when first needed, and again after it died."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            paths = os.pathsep.join(path for path in sys.path if path)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dfqsam.imaging.dicom.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        return self._process

    def decode(self, file: bytes, name: str, frames: int, pixels: int) -> Iterator[NDArray[Any]]:
        """The frames of a DICOM file that has nothing but pixels and their description.

        Args:
            file: its bytes.
            name: for messages.
            frames: how many there are.
            pixels: rows x columns.

        Raises:
            InputError: when a decoder refuses, dies or does not come to an end, or is not installed.
        """
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        limit = 16 * pixels * 4 + 4096
        for index in range(frames):
            late = threading.Event()

            def stop(process: subprocess.Popen[bytes] = process, late: threading.Event = late) -> None:
                late.set()
                process.kill()

            timer = threading.Timer(self._seconds + SECONDS_PER_MEGAPIXEL * pixels / 1e6, stop)
            timer.start()
            try:
                if index == 0:
                    send(process.stdin, struct.pack(">I", frames), file)
                answer: dict[str, Any] = json.loads(receive(process.stdout, 4096))
                data = receive(process.stdout, limit) if "dtype" in answer else b""
            except (EOFError, OSError, ValueError) as error:
                self.close()
                how = "does not come to an end" if late.is_set() else "failed"
                raise InputError(
                    f"{name} holds a damaged compressed picture (its decoder {how}); export it again."
                ) from error
            finally:
                timer.cancel()
            if "dtype" not in answer:
                self.close()
                raise InputError(
                    f"{name} holds a damaged compressed picture, or one that no installed decoder reads "
                    f"({answer.get('syntax', 'unknown')}); export it uncompressed."
                )
            yield np.frombuffer(data, np.dtype(answer["dtype"])).reshape(answer["shape"])
