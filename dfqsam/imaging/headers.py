"""Size of a PNG, JPEG or TIFF picture from its header, before a pixel is decoded, and a check that it is whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

# Bytes that tell any kind of file from another.
ENOUGH = 1024
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*")

_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_JPEG_BARE = {0x01, *range(0xD0, 0xD9)}
_JPEG_LS_FRAME = 0xF7
_J2K_SIZE = b"\xff\x4f\xff\x51"
_SCAN, _END = 0xDA, b"\xff\xd9"
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257


class DamagedError(ValueError):
    """The header or the structure of the file is not as its format has it."""


def kind(data: bytes) -> str | None:
    """``png``, ``jpeg`` or ``tiff`` by the first bytes of the file, None for anything else."""
    if data.startswith(PNG):
        return "png"
    if data.startswith(JPEG):
        return "jpeg"
    return "tiff" if data.startswith(TIFF) else None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Name, content and whole bytes of each chunk up to the end mark; DamagedError for a cut or a wrong checksum."""
    at, name = len(PNG), b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise DamagedError
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise DamagedError
        yield name, data[at + 8 : end - 4], data[at:end]
        at = end


def png_essentials(data: bytes) -> bytes:
    """A PNG with nothing but its pixels: no colour profiles, texts or transparency, over which decoders complain.

    Raises:
        DamagedError: when the file is cut short or a checksum is wrong.
    """
    return PNG + b"".join(whole for name, _, whole in _png_chunks(data) if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND"))


def _png_size(data: bytes) -> tuple[int, int]:
    name, content, _ = next(_png_chunks(data))
    if name != b"IHDR" or len(content) != 13:
        raise DamagedError
    width, height = struct.unpack(">II", content[:8])
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at, size = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _JPEG_BARE:
            at += 1 if marker == 0xFF else 2
            continue
        if (marker in _JPEG_FRAMES or marker == _JPEG_LS_FRAME) and at + 9 <= len(data):
            size = struct.unpack_from(">HH", data, at + 5)
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == _SCAN:
            break
    if size is None or data.find(_END, at) < 0:
        raise DamagedError
    return size


def tiff_pages(data: bytes, most: int) -> list[tuple[int, int]]:
    """Height and width in pixels of the first ``most`` pages of a TIFF.

    Raises:
        DamagedError: when a directory cannot be read, or pages go in a circle.
    """
    order = "<" if data.startswith(b"II") else ">"
    pages: list[tuple[int, int]] = []
    seen: set[int] = set()
    entries = 0
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        while at and len(pages) < most:
            if at in seen:
                raise DamagedError
            seen.add(at)
            (count,) = struct.unpack_from(f"{order}H", data, at)
            entries += count
            if 12 * entries > len(data):  # directories that overlap would take for ever to read
                raise DamagedError
            size = {}
            for entry in range(at + 2, at + 2 + 12 * count, 12):
                tag, field = struct.unpack_from(f"{order}HH", data, entry)
                if tag in (_TIFF_WIDTH, _TIFF_HEIGHT):
                    (size[tag],) = struct.unpack_from(f"{order}{'H' if field == 3 else 'I'}", data, entry + 8)
            pages.append((size[_TIFF_HEIGHT], size[_TIFF_WIDTH]))
            (at,) = struct.unpack_from(f"{order}I", data, at + 2 + 12 * count)
    except (struct.error, KeyError) as error:
        raise DamagedError from error
    if not pages:
        raise DamagedError
    return pages


def _tiff_size(data: bytes) -> tuple[int, int]:
    return tiff_pages(data, 1)[0]


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width in pixels that the header names (of the first page of a TIFF).

    Raises:
        DamagedError: when the header cannot be read, or a JPEG has no end mark.
    """
    reader = {"png": _png_size, "jpeg": _jpeg_size, "tiff": _tiff_size}.get(kind(data) or "")
    if reader is None:
        raise DamagedError
    return reader(data)


def codestream_size(data: bytes) -> tuple[int, int]:
    """Height and width in pixels that a compressed frame of DICOM names: JPEG, JPEG-LS, JPEG 2000 or JP2.

    Raises:
        DamagedError: when it is none of them or its header cannot be read.
    """
    if data.startswith(JPEG[:2]):
        return _jpeg_size(data)
    at = data.find(_J2K_SIZE, 0, 4096)
    if at < 0 or at + 24 > len(data):
        raise DamagedError
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    if right <= left or bottom <= top:
        raise DamagedError
    return bottom - top, right - left
