"""How the C library hands memory back to the system: not while encoders run in torch, and at once on a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

# From malloc.h of glibc.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_KEPT = 1 << 29
NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> None:
    """Lets this process keep freed blocks of up to 512 MB for its next allocation; glibc only, nothing elsewhere.

    One TinyViT forward at 256 px allocates and frees tensors of 64 MB dozens of times. glibc maps each such block anew
    and gives it back when it is freed, so that every page of it is faulted in again and cleared by the kernel: a
    quarter of the whole forward (1.07 s with and 0.82 s without, on two cores). The price is that a process stays as
    large as it once was; larger blocks, which are tensors of many images at once, are given back.
    """
    mallopt = _of_glibc("mallopt", ctypes.c_int, ctypes.c_int)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)


def return_freed_memory() -> None:
    """Gives freed blocks back to the system; glibc only, nothing elsewhere.

    Where a model was loaded these are a good part of the process: 47 of 163 MB for LiteMedSAM at w8a8.
    """
    trim = _of_glibc("malloc_trim", ctypes.c_size_t)
    if trim is not None:
        trim(0)


def _of_glibc(name: str, *arguments: type[Any]) -> Callable[..., int] | None:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):  # no C library by that name, or one without this function
        return None
    function.argtypes, function.restype = list(arguments), ctypes.c_int
    return function
