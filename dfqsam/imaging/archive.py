"""The members of a zip archive, held to what its central directory says before any is unpacked; nothing is written."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO

from dfqsam.errors import InputError

ZIP = b"PK\x03\x04"
MAX_MEMBERS = 20_000
MAX_MEMBER = 1 << 30
MAX_TOTAL = 1 << 32
# Uncompressed CT packs to about a third; a whole member of one value to a thousandth.
MAX_RATIO = 200
SMALL = 1 << 20

_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)


def _check(members: list[zipfile.ZipInfo], name: str) -> None:
    if len(members) > MAX_MEMBERS:
        raise InputError(f"{name} holds {len(members)} files; the limit is {MAX_MEMBERS}.")
    total = sum(member.file_size for member in members)
    for member in members:
        path = PurePosixPath(member.filename)
        outside = path.is_absolute() or ".." in path.parts or PureWindowsPath(member.filename).drive
        if outside or "\\" in member.filename or "\0" in member.filename or stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(f"{name} holds a member that points outside the archive; it is not opened.")
        if member.flag_bits & 1:
            raise InputError(f"{name} is encrypted; unpack it and give the folder.")
        swollen = member.file_size > SMALL and member.file_size > MAX_RATIO * max(1, member.compress_size)
        if member.file_size > MAX_MEMBER or total > MAX_TOTAL or swollen:
            raise InputError(f"{name} unpacks to far more than it should ({total >> 20} MB); it is not opened.")


@contextmanager
def archive(file: BinaryIO, name: str) -> Iterator[zipfile.ZipFile]:
    """The archive, checked: no paths that lead outside, no links, no encryption, no bombs.

    Raises:
        InputError: when it is damaged or fails a check.
    """
    try:
        packed = zipfile.ZipFile(file)
    except _DAMAGE as error:
        raise InputError(f"{name} is a damaged zip archive; make it again.") from error
    with packed:
        _check(packed.infolist(), name)
        yield packed


def member(packed: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> BinaryIO:
    """The bytes of a member, in memory; never more than the central directory names.

    Raises:
        InputError: when they are damaged.
    """
    try:
        with packed.open(info) as stream:
            data = stream.read(info.file_size)
            if len(data) != info.file_size or stream.read(1):  # the second read verifies the checksum
                raise zipfile.BadZipFile
    except _DAMAGE as error:
        raise InputError(f"{name} is a damaged zip archive; make it again.") from error
    return io.BytesIO(data)
