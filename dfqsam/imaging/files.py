"""Opening files with one clear sentence for what can go wrong, limits on size, and writing that leaves no halves."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from dfqsam.errors import InputError

MAX_VOXELS = 1 << 28
_most_pixels: ContextVar[int | None] = ContextVar("most_pixels", default=None)


class TooManyPixelsError(InputError):
    """A study larger than the caller of the readers takes, told from its header."""


@contextmanager
def at_most_pixels(count: int) -> Iterator[None]:
    """Readers refuse studies of more pixels in all (rows x columns x slices) while the block runs, from their headers.

    For a service, which has to bound what a stranger's file may cost; the limits of the readers themselves hold anyhow.
    """
    before = _most_pixels.set(count)
    try:
        yield
    finally:
        _most_pixels.reset(before)


def opened(path: Path) -> BinaryIO:
    """The file, open for reading.

    Raises:
        InputError: when it is missing, a directory, empty or not readable.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path} is a directory; give a file.")
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            raise InputError(f"{path} is no regular file; give a file.")
        if not found.st_size:
            raise InputError(f"{path} is empty (0 bytes); export it again.")
        return path.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def size_of(file: BinaryIO) -> int:
    """Bytes in an open file; its place in the file is kept."""
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)
    return size


def check_pixels(name: str | Path, *shape: int) -> None:
    """Raises:
    TooManyPixelsError: when there are more than :func:`at_most_pixels` allows; ``shape`` is without colours.
    """
    most = _most_pixels.get()
    if most is not None and math.prod(shape) > most:
        size = " x ".join(str(length) for length in shape)
        raise TooManyPixelsError(f"{name} has {size} pixels; at most {most} are taken here, so send a part of it.")


def check_voxels(name: str | Path, *shape: int) -> None:
    """Raises:
    InputError: when there are more voxels than can be read, told from a header before any is.
    """
    count = math.prod(shape)
    if count > MAX_VOXELS:
        size = " x ".join(str(length) for length in shape)
        raise InputError(f"{name} claims {size} voxels; the limit is {MAX_VOXELS >> 20} million (2^28), so crop it.")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there, so that nothing but the whole of it is ever seen.

    Raises:
        InputError: when it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            beside.write_bytes(data)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be written ({getattr(error, 'strerror', None) or error}).") from error
