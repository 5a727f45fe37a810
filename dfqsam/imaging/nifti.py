"""NIfTI-1 and NIfTI-2 volumes (.nii, .nii.gz): the header first, voxels only when it is sound."""

from __future__ import annotations

import gzip
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.extra import studies
from dfqsam.imaging.files import check_pixels, check_voxels, size_of
from dfqsam.imaging.volume import NiftiSource, Volume
from dfqsam.progress import stage

GZIP = b"\x1f\x8b"
HEADER = 540  # of NIfTI-2, the longer one
# Extensions lie between header and voxels; those of common tools take some hundred kilobytes.
MAX_OFFSET = 1 << 24
# Deflate makes at most 1032 bytes of one.
MOST_INFLATED = 1032
CHUNK = 1 << 20
# Voxels of all volumes of a series, of which one is kept.
MAX_SERIES = 1 << 32
# Steps of voxels from a nanometre on, and places within ten kilometres; sines of angles between axes.
SMALLEST_MM, LARGEST_MM, FLAT = 1e-6, 1e7, 1e-4
# By the unit's code; without one, mm are what tools mean.
MM_OF_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}

_DAMAGE = (OSError, EOFError, zlib.error, ValueError, OverflowError, MemoryError)


def is_nifti(head: bytes) -> bool:
    """Whether the first 540 bytes, unpacked, are a NIfTI header (single file or the header of a pair)."""
    return (head[:4] in _SIZES and head[344:348] in (b"n+1\0", b"ni1\0")) or (
        head[:4] in _SIZES2 and head[4:7] in _MAGIC2
    )


_SIZES = tuple(int.to_bytes(348, 4, order) for order in ("little", "big"))
_SIZES2 = tuple(int.to_bytes(540, 4, order) for order in ("little", "big"))
_MAGIC2 = (b"n+2", b"ni2")


def unpacked_head(file: BinaryIO, count: int = HEADER) -> bytes:
    """The first bytes of a file, of its contents where it is packed with gzip; empty when those cannot be unpacked."""
    file.seek(0)
    head = file.read(count)
    file.seek(0)
    if not head.startswith(GZIP):
        return head
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            return stream.read(count)
    except _DAMAGE:
        return b""
    finally:
        file.seek(0)


def _header(head: bytes, name: str) -> Any:
    nibabel = studies("nibabel")
    second = head[:4] in _SIZES2
    if (head[4:7] if second else head[344:347]) in (b"ni1", b"ni2"):
        raise InputError(f"{name} is the header of a pair (.hdr and .img); save the volume as one .nii file.")
    kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    size = 540 if second else 348
    order = "<" if head[:4] == int.to_bytes(size, 4, "little") else ">"
    if len(head) < size:
        raise InputError(f"{name} is cut short: its header ends after {len(head)} bytes; export it again.")
    return kind(head[:size], order, check=False)


def _scaling(header: Any) -> tuple[float, float]:
    try:
        slope, inter = header.get_slope_inter()
    except studies("nibabel.spatialimages").HeaderDataError:
        slope, inter = None, None
    return (1.0, 0.0) if slope is None else (float(slope), float(inter or 0.0))


def numbers(raw: NDArray[Any], slope: float, inter: float, name: str) -> NDArray[Any]:
    """Stored values as numbers in the file's units: whole ones stay whole, others become float32."""
    if raw.dtype.names:
        if raw.dtype.names[:3] != ("R", "G", "B"):
            raise InputError(f"{name} holds values of the kind {raw.dtype}, which is no picture; convert it.")
        return np.stack([raw[channel] for channel in "RGB"], axis=-1)
    if raw.dtype.kind not in "iuf":
        raise InputError(f"{name} holds values of the kind {raw.dtype}; convert it to whole or real numbers.")
    with np.errstate(over="ignore", invalid="ignore"):  # a huge value becomes infinite, which windows know
        if slope == 1 and inter == 0:
            narrow = raw.dtype.kind != "f" and raw.dtype.itemsize <= 4
            return raw.astype(raw.dtype.newbyteorder("=") if narrow else np.float32, copy=False)
        if (
            slope == 1
            and inter == int(inter)
            and raw.dtype.kind != "f"
            and raw.dtype.itemsize <= 2
            and abs(inter) < 2**30
        ):
            return raw.astype(np.int32) + np.int32(inter)
        return raw.astype(np.float32) * np.float32(slope) + np.float32(inter)


def _drain(stream: BinaryIO, packed: bool, end: int) -> None:
    """Read a packed file to its end, where its checksum is: a flipped bit within shows nowhere else.

    Raises:
        ValueError: when there is much more than the ``end`` that the header names.
    """
    while packed and (chunk := stream.read(CHUNK)):
        if stream.tell() - len(chunk) > end + CHUNK:
            raise ValueError("the file goes on behind its voxels")


def sane(affine: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The affine, None where it is no map of voxels to places in a patient."""
    if not np.isfinite(affine).all() or np.abs(affine).max() > LARGEST_MM:
        return None
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() < SMALLEST_MM or abs(np.linalg.det(affine[:3, :3] / lengths)) < FLAT:
        return None
    return affine


def _differ(header: Any, shape: tuple[int, ...], step: float) -> bool:
    """Whether qform and sform, both coded, put the far corner or the first voxel half a step or more apart."""
    try:
        with np.errstate(all="ignore"):
            qform, coded = header.get_qform(coded=True)
            if not coded or qform is None:
                return False
            corners = np.array([[0.0, 0, 0, 1], [*(n - 1 for n in shape), *[0] * (3 - len(shape)), 1]])
            apart = np.abs(corners @ (qform - header.get_sform()).T).max()
    except (ValueError, studies("nibabel.spatialimages").HeaderDataError):
        return True
    return not apart < step / 2


def _geometry(header: Any, shape: tuple[int, ...]) -> tuple[Any, Any, list[str]]:
    """Spacing and affine for (slice, row, column), and notes."""
    notes = []
    mm = MM_OF_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    zooms = [float(step) * mm for step in np.asarray(header["pixdim"][1:4], np.float64)]
    spacing: Any = (zooms[2] if len(shape) > 2 else None, zooms[1], zooms[0])
    if not all(SMALLEST_MM <= step <= LARGEST_MM for step in spacing if step is not None):
        spacing = None
        notes.append("The header names no usable voxel size, so nothing is measured in mm.")
    coded = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    affine = None
    if coded and spacing is not None:
        try:
            with np.errstate(all="ignore"):
                stored = np.asarray(header.get_best_affine(), np.float64)
        except (ValueError, studies("nibabel.spatialimages").HeaderDataError):  # a quaternion that is none
            stored = np.full((4, 4), np.nan)
        affine = sane(stored[:, [2, 1, 0, 3]] * [[mm], [mm], [mm], [1]])
        if affine is not None and int(header["sform_code"]) > 0:  # where both are coded, the sform is the affine
            lengths = np.linalg.norm(affine[:3, :3], axis=0)
            spacing = (float(lengths[0]) if len(shape) > 2 else None, float(lengths[1]), float(lengths[2]))
        if affine is not None and int(header["sform_code"]) > 0 and _differ(header, shape, float(min(zooms)) / mm):
            notes.append("The header's two transforms differ; the sform is taken here, other tools may take the qform.")
    if affine is None:
        notes.append("The header does not say how the patient lies, so sides are unknown.")
    return spacing, affine, notes


def read_nifti(file: BinaryIO, name: str, volume: int | None = None) -> Volume:
    """The volume in an open NIfTI file, packed or not.

    Args:
        file: open for reading, at any place.
        name: for messages.
        volume: which one of a series (a fourth axis), from 0 on; without it the first, with a note.

    Raises:
        InputError: for a damaged or cut file, more than 2^28 voxels, values that are no numbers, a fifth axis, or a
            volume that is not there.
    """
    damaged = f"{name} is damaged or cut short; export it again."
    file.seek(0)
    packed = file.read(2) == GZIP
    head = unpacked_head(file)
    header_error = studies("nibabel.spatialimages").HeaderDataError
    try:
        header = _header(head, name)
        whole = tuple(int(n) for n in header.get_data_shape())
        dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
    except (header_error, ValueError, OverflowError, KeyError, TypeError) as error:
        raise InputError(f"{name} has a NIfTI header that makes no sense; export it again.") from error
    if not 2 <= len(whole) <= 7 or min(whole) < 1 or not len(head) >= 348 or offset < 348:
        raise InputError(f"{name} has a NIfTI header that makes no sense; export it again.")
    shape, times = whole[:3], whole[3:]
    if any(n > 1 for n in times[1:]):
        raise InputError(f"{name} has {len(whole)} axes ({' x '.join(map(str, whole))}); give a file of 2 to 4 axes.")
    count = times[0] if times else 1
    chosen = volume or 0
    if not 0 <= chosen < count:
        raise InputError(f"There is no volume {chosen} in {name}; there are {count}, from 0 on.")
    check_pixels(name, *shape, count)
    check_voxels(name, *shape)
    if int(np.prod(whole, dtype=object)) > MAX_SERIES:
        raise InputError(
            f"{name} claims {count} volumes of {' x '.join(map(str, shape))} voxels, which is too much; split it."
        )
    if offset > MAX_OFFSET:
        raise InputError(f"{name} keeps {offset >> 20} MB before its voxels, which no tool writes; export it again.")
    one = int(np.prod(shape, dtype=object)) * dtype.itemsize
    needed = offset + one * count
    size = size_of(file)
    if size * (MOST_INFLATED if packed else 1) < needed:
        raise InputError(f"{name} is cut short: {size} bytes cannot hold the {needed} that its header names.")
    slope, inter = _scaling(header)
    file.seek(0)
    stream: Any = gzip.GzipFile(fileobj=file) if packed else file
    try:
        proxy = studies("nibabel.arrayproxy").ArrayProxy(stream, ((*shape, count), dtype, offset, 1.0, 0.0), mmap=False)
        with stage("voxels"):
            raw = np.asanyarray(proxy[..., chosen])
            _drain(stream, packed, needed)
    except _DAMAGE as error:
        raise InputError(damaged) from error
    array = numbers(raw, slope, inter, name)
    spatial = range(len(shape))
    array = array.transpose(*reversed(spatial), *range(len(shape), array.ndim))
    if len(shape) == 2:
        array = array[None]
    spacing, affine, notes = _geometry(header, shape)
    if count > 1 and volume is None:
        notes.append(f"The file holds {count} volumes; this is the first (volume 0).")
    kept = shape if count > 1 else whole
    return Volume(np.ascontiguousarray(array), spacing, affine, "", NiftiSource(header, kept), notes=tuple(notes))
