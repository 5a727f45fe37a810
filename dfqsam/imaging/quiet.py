"""Silence for the decoders below OpenCV, which write to the process's standard error on their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()


@contextmanager
def silenced() -> Iterator[None]:
    """Send file descriptor 2 to nowhere while the block runs (one thread at a time)."""
    with _LOCK:
        try:
            kept = os.dup(2)
        except OSError:  # standard error is closed: there is nothing to keep quiet
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
