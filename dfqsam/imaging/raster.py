"""PNG, JPEG and TIFF pictures in, masks and pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError
from dfqsam.imaging import headers
from dfqsam.imaging.files import check_pixels, check_voxels
from dfqsam.imaging.quiet import silenced

MAX_PIXELS = 64_000_000
MAX_BYTES = 1 << 29
MAX_PAGES = 10_000
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")

Picture = NDArray[np.uint8]


def _bytes_of(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a directory; give a PNG, JPEG or TIFF picture.")
    try:
        with path.open("rb") as file:
            return _whole(file, path)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _whole(file: BinaryIO, path: str | Path) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if not data:
        raise InputError(f"{path} is empty (0 bytes); give a PNG, JPEG or TIFF picture.")
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MB; give a smaller picture.")
    return data


def _decoded(data: bytes, pages: int = 1) -> list[NDArray[np.generic]]:
    """H x W x 3, BGR, of each page; none where the decoder refuses."""
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR
    packed = np.frombuffer(data, np.uint8)
    with silenced():
        try:
            if pages == 1:
                image = cv2.imdecode(packed, flags)
                return [] if image is None else [np.asarray(image)]
            return [np.asarray(page) for page in cv2.imdecodemulti(packed, flags)[1]]
        except cv2.error:
            return []


def to_eight_bits(values: NDArray[np.generic]) -> Picture:
    """16-bit values scaled so that the least becomes 0 and the greatest 255; a picture of one value becomes black."""
    low, high = int(values.min()), int(values.max())
    scaled = (values.astype(np.float32) - low) * (255.0 / max(1, high - low))
    return np.rint(scaled).astype(np.uint8)


def _pages(data: bytes, path: str | Path, most: int) -> NDArray[np.uint8]:
    kind = headers.kind(data)
    if kind is None:
        raise InputError(f"{path} is no PNG, JPEG or TIFF picture, whatever its name says; convert it first.")
    damaged = f"{path} is damaged or cut short, or holds values that are neither 8 nor 16 bits; export it again."
    try:
        sizes = headers.tiff_pages(data, most) if kind == "tiff" else [headers.size_of(data)]
        if len(set(sizes)) > 1:  # thumbnails and levels of a pyramid: the first page is the picture
            sizes = sizes[:1]
        height, width = sizes[0]
        if height * width > MAX_PIXELS:
            raise InputError(f"{path} has {width} x {height} pixels; the limit is {MAX_PIXELS // 10**6} million.")
        check_pixels(path, len(sizes), height, width)
        check_voxels(path, len(sizes), height, width, 3)
        images = _decoded(headers.png_essentials(data) if kind == "png" else data, len(sizes))
    except headers.DamagedError as error:
        raise InputError(damaged) from error
    shapes = {(image.shape, image.dtype) for image in images}
    if len(images) != len(sizes) or len(shapes) != 1:
        raise InputError(damaged)
    if images[0].ndim != 3 or images[0].shape[2] != 3 or images[0].dtype not in (np.uint8, np.uint16):
        raise InputError(damaged)
    rgb = np.ascontiguousarray(np.stack(images)[..., ::-1])
    return to_eight_bits(rgb) if rgb.dtype == np.uint16 else rgb.astype(np.uint8, copy=False)


def read_picture(path: str | Path) -> Picture:
    """The picture in a PNG, JPEG or TIFF file as H x W x 3 uint8 RGB, upright as viewers show a JPEG.

    Grey becomes three equal channels, palettes are resolved and transparency is dropped. 16-bit values are scaled to
    8 bits by the least and the greatest value of the whole picture. Of a TIFF, the first page is read.

    Raises:
        InputError: one sentence, for a file that is missing, empty, cut short, of another kind or of another depth,
            and for a picture of more than 64 million pixels (told from the header, before it is decoded).
    """
    return _pages(_bytes_of(Path(path)), path, 1)[0]


def read_pages(file: BinaryIO, name: str | Path) -> NDArray[np.uint8]:
    """All pages of a TIFF as S x H x W x 3, read and refused as :func:`read_picture` does; one for PNG and JPEG.

    16-bit values are scaled by those of all pages. Where pages have different sizes, the first alone is the picture.

    Raises:
        InputError: as :func:`read_picture`, and for more than 2^28 values in all pages.
    """
    return _pages(_whole(file, name), name, MAX_PAGES)


def _write(path: Path, suffix: str, image: Picture) -> None:
    encoded, data = cv2.imencode(suffix, image)
    if not encoded:
        raise InputError(f"{path} cannot be written: the picture of shape {image.shape} does not encode as {suffix}.")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from error


def write_mask(path: str | Path, mask: ArrayLike) -> None:
    """Write an H x W mask as a grey PNG, 255 inside and 0 outside.

    Raises:
        InputError: when the name does not end in .png, the mask is not H x W, or the file cannot be written.
    """
    path, array = Path(path), np.asarray(mask)
    if path.suffix.lower() != ".png":
        raise InputError(f"The mask {path} must be named .png, which keeps every pixel as it is.")
    if array.ndim != 2 or not array.size:
        raise InputError(f"The mask has shape {array.shape}; give height x width.")
    _write(path, ".png", np.where(array.astype(bool), np.uint8(255), np.uint8(0)))


def write_picture(path: str | Path, image: Picture) -> None:
    """Write an H x W x 3 uint8 RGB picture as PNG or JPEG, by the name's ending.

    Raises:
        InputError: for another ending, another shape or dtype, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"The picture {path} must be named {', '.join(PICTURE_SUFFIXES)}.")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(
            f"The picture has shape {image.shape} and dtype {image.dtype}; give height x width x 3, uint8."
        )
    _write(path, path.suffix.lower(), np.ascontiguousarray(image[..., ::-1]))
