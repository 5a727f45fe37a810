"""NRRD and MetaImage volumes (.nrrd, .nhdr, .mha, .mhd), read by SimpleITK once their headers are sound.

ITK reads them in a process of its own with limits on memory and time, as decoders of DICOM are run: what a damaged file
brings down is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.files import MAX_VOXELS, check_voxels, opened, size_of
from dfqsam.imaging.itk.header import MAX_HEADER, Header, attached, read_header
from dfqsam.imaging.nifti import LARGEST_MM, SMALLEST_MM, numbers, sane
from dfqsam.imaging.volume import ItkSource, Volume
from dfqsam.progress import stage

# Deflate makes at most 1032 bytes of one; a number as text takes a digit and a blank.
MOST_INFLATED, LEAST_TEXT = 1032, 2
SECONDS, SECONDS_PER_GIGABYTE = 60.0, 120.0
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _check_size(header: Header, size: int, name: str) -> None:
    if header.values > MAX_VOXELS:
        check_voxels(name, header.values)
    needed = header.values * header.value_bytes
    most = {"raw": size, "gzip": size * MOST_INFLATED, "text": size * header.value_bytes // LEAST_TEXT + 8}
    if most[header.packing] < needed:
        raise InputError(f"{name} is cut short: {size} bytes cannot hold the {needed} that its header names.")


def _whole(file: BinaryIO, name: str, folder: Path | None) -> tuple[Header, bytes]:
    """The header, and the file as one, its voxels taken from beside it where they are there."""
    file.seek(0)
    head = file.read(MAX_HEADER)
    header = read_header(head, name)
    if not header.data_file:
        _check_size(header, size_of(file) - header.end, name)
        file.seek(header.end)
        return header, attached(header, head, file.read())
    if folder is None:
        raise InputError(f"{name} keeps its voxels in another file; save it as one file (.nrrd, .mha).")
    with opened(folder / header.data_file) as data:
        size = size_of(data)
        needed = header.values * header.value_bytes
        skip = size - needed if header.skip < 0 else header.skip
        if not 0 <= skip <= size:
            raise InputError(f"{name} names {header.data_file}, which is cut short; export it again.")
        _check_size(header, size - skip, name)
        data.seek(skip)
        return header, attached(header, head, data.read())


def _asked(kind: str, data: bytes, name: str) -> tuple[dict[str, Any], NDArray[Any]]:
    """What the child answers."""
    if find_spec("SimpleITK") is None:
        raise InputError(f"{name} is a volume in {kind}, which needs SimpleITK; install it: pip install 'dfqsam[itk]'.")
    damaged = f"{name} is damaged, cut short or of a kind that ITK does not read; export it again."
    paths = os.pathsep.join(path for path in sys.path if path)
    limit = SECONDS + SECONDS_PER_GIGABYTE * len(data) / 1e9
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dfqsam.imaging.itk.child"],
            input=f"{kind}\n".encode() + data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            timeout=limit,
            check=True,
        )
        head, _, voxels = done.stdout.partition(b"\n")
        answer = json.loads(head)
        return answer, np.frombuffer(voxels, np.dtype(answer["dtype"])).reshape(answer["shape"])
    except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
        raise InputError(damaged) from error


def _volumes(answer: dict[str, Any], array: NDArray[Any], header: Header, name: str) -> tuple[NDArray[Any], bool]:
    """Voxels as volumes x S x R x C (x 3 where they are colours), and whether they are."""
    components = int(answer["components"])
    axes = array.ndim - (components > 1)
    if not 2 <= axes <= 4 or (axes == 4 and components > 1):
        raise InputError(f"{name} has {axes} axes and {components} values a voxel; give a file of 2 to 4 axes.")
    if axes == 2:
        array = array[None]
    if components == 1:
        return (array if axes == 4 else array[None]), False
    if header.colour and components in (3, 4):
        if array.dtype != np.uint8:
            raise InputError(f"{name} holds colours of {array.dtype}; convert them to 8 bits.")
        return array[None, ..., :3], True
    return np.moveaxis(array, -1, 0), False


def _geometry(answer: dict[str, Any], header: Header) -> tuple[Any, NDArray[np.float64] | None, list[str]]:
    """Spacing and affine for (slice, row, column), and notes."""
    count = len(answer["spacing"])
    direction = np.asarray(answer["direction"], np.float64).reshape(count, count)
    known = min(count, 3)
    steps, origin = np.ones(3), np.zeros(3)
    steps[:known], origin[:known] = answer["spacing"][:known], answer["origin"][:known]
    axes = np.eye(3)
    axes[:known, :known] = direction[:known, :known]
    mm = header.mm
    notes = []
    spacing: Any = None
    if header.spaced and mm is not None and all(SMALLEST_MM <= step * mm <= LARGEST_MM for step in steps):
        spacing = (float(steps[2]) * mm if count > 2 else None, float(steps[1]) * mm, float(steps[0]) * mm)
    else:
        notes.append("The header names no usable voxel size, so nothing is measured in mm.")
    affine = None
    if spacing is not None and mm is not None and header.placed and count > 2:
        found = np.eye(4)
        found[:3, :3], found[:3, 3] = axes * steps * mm, origin * mm
        affine = sane((TO_RAS @ found)[:, [2, 1, 0, 3]])
    if affine is None:
        notes.append("The header does not say how the patient lies, so sides are unknown.")
    return spacing, affine, notes


def read_itk(file: BinaryIO, name: str, folder: Path | None = None, volume: int | None = None) -> Volume:
    """The volume in an open NRRD or MetaImage file.

    Args:
        file: open for reading, at any place.
        name: for messages.
        folder: that the file lies in, where its voxels may be in a file beside it; None for a file in memory.
        volume: which one of a series (a fourth axis, or values of a voxel that are no colours), from 0 on; without it
            the first, with a note.

    Raises:
        InputError: for a damaged or cut file, more than 2^28 values, voxels in several files or elsewhere, a volume
            that is not there, or when SimpleITK is not installed.
    """
    header, data = _whole(file, name, folder)
    with stage("voxels"):
        answer, array = _asked(header.kind, data, name)
    volumes, colour = _volumes(answer, array, header, name)
    count, chosen = len(volumes), volume or 0
    if not 0 <= chosen < count:
        raise InputError(f"There is no volume {chosen} in {name}; there are {count}, from 0 on.")
    spacing, affine, notes = _geometry(answer, header)
    if count > 1 and volume is None:
        notes.append(f"The file holds {count} volumes; this is the first (volume 0).")
    one = np.array(volumes[chosen]) if colour else numbers(np.array(volumes[chosen]), 1.0, 0.0, name)
    return Volume(one, spacing, affine, "", ItkSource(header.kind), notes=tuple(notes))
