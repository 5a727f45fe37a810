"""What the header of an NRRD or MetaImage file says, read before a voxel is, and what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal

from dfqsam.errors import InputError

Kind = Literal["NRRD", "MetaImage"]
Packing = Literal["raw", "gzip", "text"]

# Segmentations of 3D Slicer describe every segment in the header.
MAX_HEADER = 1 << 20
MAX_AXES = 8
_META_START = re.compile(rb"\s*(ObjectType|NDims)\s*=")
_NRRD_LINE = re.compile(r"([^:=]+): *(.*)")
_META_LINE = re.compile(r"\s*([^=]+?)\s*=\s*(.*?)\s*")

_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), 8),
    **{"float": 4, "double": 8},
}
_NRRD_PACKING: dict[str, Packing] = {
    **{"raw": "raw", "gzip": "gzip", "gz": "gzip"},
    **{"ascii": "text", "text": "text", "txt": "text"},
}
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
_PATIENT = {
    "right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "ras", "las", "lps",
    "right-anterior-superior-time", "left-anterior-superior-time", "left-posterior-superior-time",
    "rast", "last", "lpst",
}  # fmt: skip
MM_OF_UNIT = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "um": 0.001, "µm": 0.001, "m": 1000.0}


@dataclass(frozen=True)
class Header:
    """What is needed of a header.

    Args:
        kind: of the file.
        values: numbers in the file, of all axes, channels and time points.
        value_bytes: of each.
        packing: raw, gzip or text.
        end: bytes of the header in the file.
        data_file: name of another file that the voxels are in; empty where they follow the header.
        skip: bytes of the data file before the voxels; -1 for whatever is too much.
        spaced: whether the file says how large a voxel is.
        placed: whether it says how the patient lies.
        mm: of the unit of lengths.
        colour: whether its channels are colours.
    """

    kind: Kind
    values: int
    value_bytes: int
    packing: Packing
    end: int
    data_file: str
    skip: int
    spaced: bool
    placed: bool
    mm: float | None
    colour: bool


def kind_by_head(head: bytes) -> Kind | None:
    """NRRD or MetaImage by the first bytes of a file; None for anything else."""
    if re.match(rb"NRRD\d{4}\r?\n", head):
        return "NRRD"
    return "MetaImage" if _META_START.match(head[:200]) else None


def read_header(data: bytes, name: str) -> Header:
    """The header at the beginning of ``data`` (:data:`MAX_HEADER` bytes of the file, or all of it).

    Raises:
        InputError: for a header that is cut short, makes no sense, or is of a kind that is not read.
    """
    kind = kind_by_head(data)
    try:
        return _nrrd(data, name) if kind == "NRRD" else _meta(data, name)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"{name} has a header of {kind or 'MetaImage'} that makes no sense or is cut short; export it again."
        ) from error


def _whole(text: str, least: int) -> list[int]:
    """The whole numbers of a field; ValueError for others, or smaller ones than ``least``."""
    numbers = [int(part) for part in text.split()]
    if not 1 <= len(numbers) <= MAX_AXES or min(numbers) < least or max(numbers) >= 1 << 40:
        raise ValueError(text[:40])
    return numbers


def _beside(data_file: str, name: str) -> str:
    """The name of another file with the voxels; only one that lies beside the header is opened."""
    parts = (PurePosixPath(data_file), PureWindowsPath(data_file))
    if any(len(path.parts) != 1 or path.is_absolute() or path.drive for path in parts) or data_file in (".", ".."):
        raise InputError(f"{name} names a file with its voxels that does not lie beside it; save it as one file.")
    if "%" in data_file or data_file.split()[0].upper() == "LIST":
        raise InputError(f"{name} keeps its voxels in several files; save it as one file.")
    return data_file


def _nrrd(data: bytes, name: str) -> Header:
    blank = re.search(rb"\r?\n(\r?\n)", data)
    lines = (data[: blank.start()] if blank else data).decode("utf-8", "replace").splitlines()
    fields: dict[str, str] = {}
    for line in lines[1:]:
        if not line.startswith("#") and ":=" not in line and (match := _NRRD_LINE.fullmatch(line)):
            fields.setdefault(match[1].strip().lower(), match[2].strip())
    data_file = fields.get("data file") or fields.get("datafile") or ""
    if not blank and not data_file:
        raise ValueError("no end")
    sizes = _whole(fields["sizes"], 1)
    if int(fields["dimension"]) != len(sizes):
        raise ValueError("dimension")
    encoding = fields["encoding"].lower()
    if encoding not in _NRRD_PACKING or "line skip" in fields or "lineskip" in fields:
        raise InputError(f"{name} is packed as {encoding[:20]!r} or with lines to skip; save it as raw or gzip.")
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", ""))) - {"s", "ms"}
    kinds = fields.get("kinds", "").lower()
    return Header(
        "NRRD",
        prod(sizes),
        _NRRD_BYTES[fields["type"].lower()],
        _NRRD_PACKING[encoding],
        blank.end() if blank else len(data),
        _beside(data_file, name) if data_file else "",
        int(fields.get("byte skip") or fields.get("byteskip") or 0),
        "space directions" in fields or fields.get("spacings", "nan").lower().split().count("nan") <= _ranges(kinds),
        fields.get("space", "").lower() in _PATIENT and "space directions" in fields,
        MM_OF_UNIT.get(next(iter(units), "").lower()) if len(units) < 2 else None,
        "rgb" in kinds,
    )


def _ranges(kinds: str) -> int:
    """How many axes are values of a voxel, which have no spacing."""
    return sum(kind not in ("domain", "space", "time", "none", "???") for kind in kinds.split())


def _meta(data: bytes, name: str) -> Header:
    fields: dict[str, str] = {}
    end = 0
    while "elementdatafile" not in fields:
        stop = data.index(b"\n", end)
        match = _META_LINE.fullmatch(data[end:stop].decode("utf-8", "replace"))
        end = stop + 1
        if match is None:
            raise ValueError("no field")
        fields.setdefault(match[1].lower(), match[2])
    sizes = _whole(fields["dimsize"], 1)
    if int(fields["ndims"]) != len(sizes):
        raise ValueError("dimension")
    channels = int(fields.get("elementnumberofchannels", "1"))
    if not 1 <= channels < 1 << 20:
        raise ValueError("channels")
    packing: Packing = "gzip" if fields.get("compresseddata", "").lower() in ("true", "1") else "raw"
    if fields.get("binarydata", "true").lower() in ("false", "0"):
        packing = "text"
    data_file, local = fields["elementdatafile"], fields["elementdatafile"].upper() == "LOCAL"
    return Header(
        "MetaImage",
        prod(sizes) * channels,
        _META_BYTES[fields["elementtype"].removesuffix("_ARRAY")],
        packing,
        end,
        "" if local else _beside(data_file, name),
        0 if local else int(fields.get("headersize", "0")),
        "elementspacing" in fields or "elementsize" in fields,
        any(field in fields for field in ("transformmatrix", "orientation", "rotation")),
        1.0,
        channels in (3, 4),
    )


def attached(header: Header, head: bytes, voxels: bytes) -> bytes:
    """The file as one: the header of ``head``, and ``voxels`` behind it."""
    if not header.data_file:
        return head[: header.end] + voxels
    gone = rb"data ?file *:" if header.kind == "NRRD" else rb"\s*(ElementDataFile|HeaderSize)\s*="
    skip = rb"|byte ?skip *:" if header.kind == "NRRD" else b""
    lines = head[: header.end].splitlines()
    kept = [line for line in lines if line.strip() and not re.match(gone + skip, line, re.IGNORECASE)]
    return b"\n".join([*kept, b"" if header.kind == "NRRD" else b"ElementDataFile = LOCAL", b""]) + voxels
