"""PNG, JPEG and TIFF pictures in; PNG masks and pictures out."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError

MAX_PIXELS = 64_000_000
MAX_BYTES = 1 << 29

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # what is wrong with a file is said in our own sentence


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """H x W x 3 RGB, 8 bit. Grey is repeated, transparency dropped, 16 bit stretched between its extreme values.

    Raises:
        InputError: one sentence, for a file that is missing, empty, too large, damaged or no picture.
    """
    path = Path(path)
    data = _bytes(path)
    size = _header_size(data)
    if size is None:
        raise InputError(f"{path} is no PNG, JPEG or TIFF picture, whatever its name says; convert it first.")
    _check_pixels(path, size)
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        array = None
    if array is None or array.size == 0:
        raise InputError(f"{path} is damaged or cut short, or stored in a way that cannot be read; save it again.")
    _check_pixels(path, array.shape[:2])
    return _rgb(array, path)


def _bytes(path: Path) -> bytes:
    if not path.exists():
        raise InputError(f"There is no file {path}; check the path.")
    if not path.is_file():
        raise InputError(f"{path} is a directory; give one picture.")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path} is empty (0 bytes); save the picture again.")
    if size > MAX_BYTES:
        raise InputError(f"{path} has {size >> 20} MiB; pictures of up to {MAX_BYTES >> 20} MiB are read.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error


def _check_pixels(path: Path, size: tuple[int, ...]) -> None:
    pixels = int(size[0]) * int(size[1])
    if pixels > MAX_PIXELS:
        raise InputError(f"{path} has {pixels / 1e6:.0f} megapixels; pictures of up to {MAX_PIXELS // 10**6} are read.")


def _header_size(data: bytes) -> tuple[int, int] | None:
    """Height and width from the header, (0, 0) where only the pixels tell; None for another kind of file."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        if len(data) < 24:
            return 0, 0
        width, height = struct.unpack(">2I", data[16:24])
        return height, width
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg_size(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_size(data)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">2H", data[at + 5 : at + 9])
            return height, width
        at += 2 + length
    return 0, 0


def _tiff_size(data: bytes) -> tuple[int, int]:
    order = "<" if data[:2] == b"II" else ">"
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        found = {}
        for i in range(count):
            tag, kind = struct.unpack_from(f"{order}2H", data, at + 2 + 12 * i)
            found[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, at + 10 + 12 * i)[0]
        return found.get(257, 0), found.get(256, 0)
    except struct.error:
        return 0, 0


def _rgb(array: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        values = array.astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"{path} holds values that are no numbers; save it with finite values.")
        low, high = float(values.min()), float(values.max())
        array = ((values - low) * (255 / (high - low) if high > low else 0)).round().astype(np.uint8)
    if array.ndim == 2:
        return np.ascontiguousarray(np.repeat(array[:, :, None], 3, axis=2).astype(np.uint8))
    if array.shape[2] in (3, 4):
        return np.ascontiguousarray(array[:, :, 2::-1].astype(np.uint8))
    return np.ascontiguousarray(np.repeat(array[:, :, :1], 3, axis=2).astype(np.uint8))


def write_picture(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Writes H x W x 3 RGB or H x W grey as PNG.

    Raises:
        InputError: when the name does not end in .png or the place cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} should end in .png; masks and overlays are written as PNG.")
    done, data = cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)
    assert done
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from error


def write_mask(path: str | Path, mask: ArrayLike) -> None:
    """Writes a mask H x W as an 8-bit PNG, 255 inside and 0 outside."""
    write_picture(path, np.where(np.asarray(mask, bool), np.uint8(255), np.uint8(0)))
