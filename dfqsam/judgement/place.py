"""Putting a file where none was: whole or not at all, once, readable by its owner only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from dfqsam.errors import InputError


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def place_once(path: Path, make: Callable[[Path], None]) -> bool:
    """Let ``make`` fill an empty file of mode 0600 and put it at ``path``, unless something is there already.

    Of several processes that do so at once one wins, and all find the winner's file whole.

    Returns:
        Whether this call's file is the one.

    Raises:
        InputError: when the file cannot be written.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            make(new)
            _sync(new, os.O_RDWR)
            try:
                os.link(new, path)
            except FileExistsError:
                return False
        finally:
            new.unlink(missing_ok=True)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _sync(path.parent, os.O_RDONLY)
        return True
    except OSError as error:
        raise InputError(f"{path} cannot be made ({error.strerror}); name another place for it.") from error
