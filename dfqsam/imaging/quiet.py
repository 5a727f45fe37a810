"""Silence for libraries that write to standard error over a damaged file, of which one sentence is said anyhow."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()


@contextmanager
def silenced() -> Iterator[None]:
    """For decoders below OpenCV: send file descriptor 2 to nowhere while the block runs (one thread at a time)."""
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


@contextmanager
def unlogged(logger: str) -> Iterator[None]:
    """Keep a library's own logger quiet while the block runs."""
    chosen = logging.getLogger(logger)
    level = chosen.level
    chosen.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        chosen.setLevel(level)
